"""What slicing alone does not mend: attributes, shapes, indices, numbers that were sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import evaluate
from prunec.compiler.control import Branches, control_of, is_control
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import (
    CountPatch,
    Hypergraph,
    IndexPatch,
    Patch,
    PinPatch,
    WindowPatch,
)
from prunec.compiler.walk import nodes
from prunec.passes.insert import free_name, home_of, names_in, new_initializer
from prunec.passes.live import products, scaled
from prunec.passes.windows import mend_window

STEERING = {"If": 1, "Loop": 2, "Scan": 0}  # first inputs that decide what runs, and how often

Mask = NDArray[np.bool_]
Slices = Mapping[int, tuple[int, ...]]
Patches = Mapping[str, Sequence[Patch]]


def pruned_shapes(facts: Facts, graph: Hypergraph, mask: Mask) -> dict[str, tuple[int, ...]]:
    """Shapes of all values after pruning, at the bound sizes."""
    shapes = {name: list(shape) for name, shape in facts.shapes.items()}
    for (value, axis), groups in graph.axes.items():
        shapes[value][axis] = int(mask[groups].sum())
    return {name: tuple(shape) for name, shape in shapes.items()}


class Follower:
    """Walks the sliced graph and mends what slicing alone does not: attributes, shapes, indices.

    Shape arithmetic is evaluated again on the way, so what adapts by itself is left alone.
    """

    def __init__(
        self,
        graph: ir.Graph,
        facts: Facts,
        hypergraph: Hypergraph,
        mask: Mask,
        slices: Mapping[str, Slices],
    ) -> None:
        self.graph, self.facts, self.mask = graph, facts, mask
        self.taken = names_in(graph)
        self.stored, self.axes = hypergraph.trace.constants, hypergraph.axes
        self.shapes = pruned_shapes(facts, hypergraph, mask)
        self.now: dict[str, NDArray[Any]] = {}
        for name, array in facts.constants.items():
            self.now[name] = array
            for axis, kept in slices.get(name, {}).items():
                self.now[name] = np.take(self.now[name], kept, axis)
        patches: dict[str, list[Patch]] = defaultdict(list)
        for patch in hypergraph.patches:
            patches[patch.node].append(patch)
        self.patches: Patches = patches
        # Only what reads the size of a pruned axis can change its contents.
        self.changed: set[str] = set(slices)

    def run(self) -> None:
        """Mend every node, in order."""
        for node in nodes(self.graph):
            for patch in self.patches.get(node.name or "", ()):
                match patch:
                    case CountPatch():
                        self._count(node, patch)
                    case IndexPatch():
                        self._index(node, patch)
                    case PinPatch():
                        self._pin(node, patch)
                    case WindowPatch():
                        mend_window(node, patch, self.mask)
            self._name_unit_axes(node)
            self._keep_numbers(node)
            self._evaluate(node)

    def _evaluate(self, node: ir.Node) -> None:
        known = [v for v in node.outputs if v.name in self.facts.constants]
        if not known or node.op_type == "Constant":
            return
        if is_control(node):
            self._leave_branch(node)
            return
        names = [v.name if v is not None else None for v in node.inputs]
        inputs = [self.now.get(n) if n else None for n in names]
        results = evaluate(node, inputs, [self.shapes.get(n) if n else None for n in names])
        for value, result in zip(node.outputs, results or (), strict=False):
            self._know(value.name or "", result)

    def _know(self, name: str, contents: NDArray[Any]) -> None:
        self.now[name] = contents
        if not np.array_equal(contents, self.facts.constants.get(name, contents)):
            self.changed.add(name)

    def _leave_branch(self, node: ir.Node) -> None:
        """The branch that an If is known to take tells the contents of its outputs."""
        control = control_of(node, self.graph.opset_imports.get("", 1), self.facts.constants)
        if isinstance(control, Branches) and control.taken is not None:
            for value, result in zip(node.outputs, control.taken.outputs, strict=True):
                if (result.name or "") in self.now:
                    self._know(value.name or "", self.now[result.name or ""])

    def _name_unit_axes(self, node: ir.Node) -> None:
        """A Squeeze without axes must not drop an axis of which one channel is left."""
        if node.op_type != "Squeeze" or "axes" in node.attributes or _has(node, 1):
            return
        source = node.inputs[0]
        name = source.name or "" if source is not None else ""
        units = [k for k, n in enumerate(self.facts.shapes.get(name, ())) if n == 1]
        if units == [k for k, n in enumerate(self.shapes.get(name, ())) if n == 1]:
            return
        if self.graph.opset_imports.get("", 1) < 13:
            node.attributes["axes"] = ir.AttrInt64s("axes", units)
        else:
            self._write(node, 1, np.array(units, np.int64))

    def _keep_numbers(self, node: ir.Node) -> None:
        """A size that is used as a number (a scale, a divisor) keeps its dense contents.

        So do conditions and trip counts: what runs is what ran before.
        """
        for position, value in enumerate(node.inputs):
            name = value.name if value is not None else None
            if name is None or name not in self.changed or name in self.stored:
                continue
            dense = self.facts.constants.get(name)
            if dense is not None and is_control(node) and position < STEERING[node.op_type]:
                if dense.dtype.kind == "b":
                    table = new_initializer(
                        self.graph, self.taken, f"{node.name}.{position}", dense
                    )
                    node.replace_input_with(position, table)
                else:
                    self._write(node, position, dense)
            elif dense is not None and dense.dtype.kind == "f":
                for axis in range(dense.ndim):  # its own axes may shrink (a filled ConstantOfShape)
                    if (name, axis) in self.axes:
                        dense = np.compress(self.mask[self.axes[name, axis]], dense, axis)
                self._write(node, position, dense)

    def _count(self, node: ir.Node, patch: CountPatch) -> None:
        new = np.array(patch.value, np.int64)
        for k, groups in patch.counts:
            new[k] = self.mask[groups].sum()
        stored = isinstance(patch.key, str) or not _has(node, patch.key)
        if stored and tuple(new.tolist()) == patch.value:
            return
        if isinstance(patch.key, str):
            key = patch.key
            node.attributes[key] = (
                ir.AttrInt64(key, int(new[0])) if patch.scalar else ir.AttrInt64s(key, new.tolist())
            )
        elif self._stays(node, patch, new) or not self._write(node, patch.key, new):
            return
        for name in patch.drop:
            node.attributes.pop(name, None)

    def _stays(self, node: ir.Node, patch: CountPatch, new: NDArray[np.int64]) -> bool:
        """Whether nothing that the input speaks of was cut: -2 stays -2, at whatever size."""
        if tuple(new.tolist()) != patch.value or not _has(node, 0):
            return False
        names = [value.name or "" if value is not None else "" for value in node.inputs]
        name = names[int(patch.key)]
        dense, have = self.facts.constants.get(name), self.now.get(name)
        before, after = (s.get(names[0], ()) for s in (self.facts.shapes, self.shapes))
        axes = range(len(before))
        if node.op_type == "Slice":  # it speaks of the axes that it cuts
            sliced = self.facts.constants.get(names[3]) if len(names) > 3 else None
            axes = axes[: len(new)] if sliced is None else sliced.tolist()
        if dense is None or have is None or [before[k] for k in axes] != [after[k] for k in axes]:
            return False
        return np.array_equal(dense, have)

    def _index(self, node: ir.Node, patch: IndexPatch) -> None:
        rank = np.cumsum(self.mask[patch.source]) - 1
        indices = np.asarray(rank[patch.indices])  # of a scalar numpy makes no array
        for axis, groups in enumerate(patch.picked):
            if groups.size == indices.shape[axis]:
                indices = np.compress(self.mask[groups], indices, axis)
        if patch.key is not None:
            self._write(node, patch.key, indices)
            return
        if self.mask[patch.source].all():
            return
        table = new_initializer(
            self.graph, self.taken, f"{node.name}.indices", indices.astype(np.int64)
        )
        old = node.outputs[0]
        gather = ir.Node(
            "",
            "Gather",
            [node.inputs[0], table],
            [ir.AttrInt64("axis", patch.axis)],
            num_outputs=1,
            name=node.name,
        )
        ir.convenience.replace_nodes_and_values(
            home_of(node), node, [node], [gather], [old], [gather.outputs[0]]
        )

    def _pin(self, node: ir.Node, patch: PinPatch) -> None:
        if not self.mask[patch.groups].all():
            node.attributes[patch.key] = ir.AttrFloat32(patch.key, patch.value)

    def _write(self, node: ir.Node, position: int, contents: NDArray[Any]) -> bool:
        """Make an input have these contents; False if it has them already."""
        value = node.inputs[position] if _has(node, position) else None
        if value is None:
            if position >= len(node.inputs):
                node.resize_inputs(position + 1)
            new = new_initializer(self.graph, self.taken, f"{node.name}.{position}", contents)
            self.now[new.name or ""] = contents
            node.replace_input_with(position, new)
            return True
        name = value.name or ""
        have = self.now.get(name)
        if have is not None and np.array_equal(have.reshape(-1), contents.reshape(-1)):
            return False
        dtype = contents.dtype if have is None else have.dtype
        contents = contents.astype(dtype)
        live = have is not None and name not in self.stored and bool(self.facts.bound)
        if live and have is not None and have.size == contents.size:
            self._adjust(node, position, have.reshape(contents.shape), contents)
            return True
        new = new_initializer(self.graph, self.taken, f"{name}.pruned", contents)
        self.now[new.name or ""] = contents  # the node itself is evaluated next
        node.replace_input_with(position, new)
        return True

    def _adjust(
        self, node: ir.Node, position: int, have: NDArray[Any], contents: NDArray[Any]
    ) -> None:
        """Let an input that depends on a symbolic size have these contents, and stay live."""
        value = node.inputs[position]
        assert value is not None, (node.name, position)
        name = value.name or ""
        # Numpy makes a scalar, which is no array, of arrays without axes.
        steps = {"Add": np.asarray(contents - have, have.dtype)}
        if have.dtype.kind == "i":
            by_factor = products(value, self.facts.shapes).reshape(have.shape)
            steps = dict(zip(("Mul", "Div", "Add"), scaled(have, contents, by_factor), strict=True))
        changed = f"{name}.changed.{node.name}"
        for op, operand in steps.items():
            if (operand == (op != "Add")).all():
                continue
            change = np.asarray(operand, have.dtype)
            table = new_initializer(self.graph, self.taken, f"{name}.{op.lower()}", change)
            step = ir.Node("", op, [value, table], num_outputs=1)
            value = step.outputs[0]
            step.name = value.name = free_name(f"{changed}.{op.lower()}", self.taken)
            home_of(node).insert_before(node, step)
        self.now[value.name or ""] = contents
        node.replace_input_with(position, value)


def _has(node: ir.Node, position: int) -> bool:
    return position < len(node.inputs) and node.inputs[position] is not None

"""Rewriting: a plan and the dense model give the pruned model, or the gated dense model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import evaluate
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import CountPatch, Hypergraph, IndexPatch
from prunec.compiler.plan import weight_slices

WHERE_SINCE = 9  # opset of Where

Mask = NDArray[np.bool_]
Slices = Mapping[int, tuple[int, ...]]
Patches = Mapping[str, Sequence[CountPatch | IndexPatch]]


def prune(model: ir.Model, facts: Facts, graph: Hypergraph, mask: Mask) -> ir.Model:
    """A new model without the channel groups where `mask` is False.

    mask: (number_of_groups + 1,), as `Plan.mask` returns it. Weights are sliced when they are
    read, so memory holds one at a time. Names, metadata, opsets and symbolic dimensions stay.
    """
    pruned = model.clone()
    slices = weight_slices(graph, mask)
    _slice_weights(pruned.graph, slices)
    _refresh_shapes(pruned.graph, graph, mask)
    _Follower(pruned.graph, facts, graph, mask, slices).run()
    remove_dead(pruned.graph)
    return pruned


def pruned_shapes(facts: Facts, graph: Hypergraph, mask: Mask) -> dict[str, tuple[int, ...]]:
    """Shapes of all values after pruning, at the bound sizes."""
    shapes = {name: list(shape) for name, shape in facts.shapes.items()}
    for (value, axis), groups in graph.axes.items():
        shapes[value][axis] = int(mask[groups].sum())
    return {name: tuple(shape) for name, shape in shapes.items()}


def gate(model: ir.Model, facts: Facts, graph: Hypergraph, mask: Mask) -> ir.Model:
    """The dense model with every removed channel set to zero wherever it is computed."""
    gated = model.clone()
    removed: dict[str, dict[int, Mask]] = defaultdict(dict)
    for (gated_value, axis), groups in graph.axes.items():
        if not mask[groups].all():
            removed[gated_value][axis] = mask[groups]
    taken = _names(gated.graph)
    for node in list(gated.graph):
        for value in node.outputs:
            name = value.name or ""
            if name in removed and name not in graph.trace.constants and _is_float(value, facts):
                _gate_value(gated.graph, taken, node, value, removed[name], facts)
    return gated


def _is_float(value: ir.Value, facts: Facts) -> bool:
    dtype = value.dtype
    if dtype is None and (value.name or "") in facts.dtypes:
        return facts.dtypes[value.name or ""].kind == "f"
    return dtype is not None and dtype.is_floating_point()


def _gate_value(
    graph: ir.Graph,
    taken: set[str],
    node: ir.Node,
    value: ir.Value,
    masks: Mapping[int, Mask],
    facts: Facts,
) -> None:
    rank = len(facts.shapes[value.name or ""])
    whole = np.ones([1] * rank, bool)
    for axis, kept in masks.items():
        shape = [1] * rank
        shape[axis] = -1
        whole = whole & kept.reshape(shape)
    dtype = value.dtype or ir.DataType.from_numpy(facts.dtypes[value.name or ""])
    uses = list(value.uses())
    if graph.opset_imports.get("", WHERE_SINCE) >= WHERE_SINCE:
        # Where, not Mul: zero times infinity would not be zero.
        keep = _initializer(graph, taken, f"{value.name}.kept", whole)
        zero = _initializer(graph, taken, f"{value.name}.zero", np.zeros((), dtype.numpy()))
        op, inputs = "Where", [keep, value, zero]
    else:
        keep = _initializer(graph, taken, f"{value.name}.kept", whole.astype(dtype.numpy()))
        op, inputs = "Mul", [value, keep]
    gate_node = ir.Node("", op, inputs, num_outputs=1, name=f"{value.name}.gate")
    gate_node.outputs[0].name = f"{value.name}.gated"
    gate_node.outputs[0].dtype = dtype
    graph.insert_after(node, gate_node)
    for user, position in uses:
        user.replace_input_with(position, gate_node.outputs[0])


def _names(graph: ir.Graph) -> set[str]:
    """Names of all values of the graph."""
    named = [*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs)]
    return {value.name for value in named if value.name}


def _initializer(graph: ir.Graph, taken: set[str], name: str, array: NDArray[Any]) -> ir.Value:
    unique, n = name, 1
    while unique in taken:
        unique, n = f"{name}.{n}", n + 1
    taken.add(unique)
    value = ir.Value(name=unique, const_value=ir.tensor(array, name=unique))
    value.shape = ir.Shape(array.shape)
    value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    graph.register_initializer(value)
    return value


def _take(tensor: ir.TensorProtocol, slices: Slices) -> ir.Tensor[Any]:
    array = tensor.numpy()
    # The axis that shrinks most goes first: less to copy for the others.
    for axis, kept in sorted(slices.items(), key=lambda s: len(s[1]) / array.shape[s[0]]):
        array = np.take(array, np.array(kept, np.int64), axis)
    if isinstance(tensor, ir.ExternalTensor):
        tensor.release()
    return ir.Tensor(np.ascontiguousarray(array), dtype=tensor.dtype, name=tensor.name)


def sliced(tensor: ir.TensorProtocol, slices: Slices) -> ir.LazyTensor:
    """A tensor that is sliced whenever it is read, never kept."""
    shape = [len(slices.get(k, range(n))) for k, n in enumerate(tensor.shape.numpy())]
    return ir.LazyTensor(
        lambda: _take(tensor, slices),
        dtype=tensor.dtype,
        shape=ir.Shape(shape),
        name=tensor.name,
    )


def _slice_weights(graph: ir.Graph, slices: Mapping[str, Slices]) -> None:
    for name, value in graph.initializers.items():
        if name in slices and value.const_value is not None:
            value.const_value = sliced(value.const_value, slices[name])
    for node in graph:
        if node.op_type == "Constant" and (node.outputs[0].name or "") in slices:
            cut = slices[node.outputs[0].name or ""]
            ((name, attr),) = list(node.attributes.items())[:1]
            array = np.asarray(attr.value.numpy() if name == "value" else attr.value)
            dtype = attr.value.dtype if name == "value" else None
            if dtype is None and name == "value_floats":
                array = array.astype(np.float32)
            tensor = _take(ir.Tensor(array, dtype=dtype), cut)
            del node.attributes[name]
            node.attributes["value"] = ir.AttrTensor("value", tensor)


def _refresh_shapes(graph: ir.Graph, hypergraph: Hypergraph, mask: Mask) -> None:
    changed: dict[str, dict[int, int]] = defaultdict(dict)
    for (name, axis), groups in hypergraph.axes.items():
        kept = mask[groups]
        if not kept.all():
            changed[name][axis] = int(kept.sum())
    values = [v for node in graph for v in node.outputs]
    for value in [*graph.initializers.values(), *graph.inputs, *values]:
        sizes = changed.get(value.name or "")
        if sizes and value.shape is not None:
            value.shape = ir.Shape([sizes.get(k, dim) for k, dim in enumerate(value.shape)])


class _Follower:
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
        self.taken = _names(graph)
        self.stored, self.axes = hypergraph.trace.constants, hypergraph.axes
        self.shapes = pruned_shapes(facts, hypergraph, mask)
        self.now: dict[str, NDArray[Any]] = {}
        for name, array in facts.constants.items():
            self.now[name] = array
            for axis, kept in slices.get(name, {}).items():
                self.now[name] = np.take(self.now[name], kept, axis)
        patches: dict[str, list[CountPatch | IndexPatch]] = defaultdict(list)
        for patch in hypergraph.patches:
            patches[patch.node].append(patch)
        self.patches: Patches = patches
        # Only what reads the size of a pruned axis can change its contents.
        self.changed: set[str] = set(slices)

    def run(self) -> None:
        """Mend every node, in order."""
        for node in list(self.graph):
            for patch in self.patches.get(node.name or "", ()):
                if isinstance(patch, CountPatch):
                    self._count(node, patch)
                else:
                    self._index(node, patch)
            self._name_unit_axes(node)
            self._keep_numbers(node)
            self._evaluate(node)

    def _evaluate(self, node: ir.Node) -> None:
        known = [v for v in node.outputs if v.name in self.facts.constants]
        if not known or node.op_type == "Constant":
            return
        names = [v.name if v is not None else None for v in node.inputs]
        inputs = [self.now.get(n) if n else None for n in names]
        results = evaluate(node, inputs, [self.shapes.get(n) if n else None for n in names])
        for value, result in zip(node.outputs, results or (), strict=False):
            name = value.name or ""
            self.now[name] = result
            if not np.array_equal(result, self.facts.constants.get(name, result)):
                self.changed.add(name)

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
        """A size that is used as a number (a scale, a divisor) keeps its dense contents."""
        for position, value in enumerate(node.inputs):
            name = value.name if value is not None else None
            if name is None or name not in self.changed or name in self.stored:
                continue
            dense = self.facts.constants.get(name)
            if dense is not None and dense.dtype.kind == "f":
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
        elif not self._write(node, patch.key, new):
            return
        for name in patch.drop:
            node.attributes.pop(name, None)

    def _index(self, node: ir.Node, patch: IndexPatch) -> None:
        rank = np.cumsum(self.mask[patch.source]) - 1
        indices = rank[patch.indices]
        for axis, groups in enumerate(patch.picked):
            if groups.size == indices.shape[axis]:
                indices = np.compress(self.mask[groups], indices, axis)
        if patch.key is not None:
            self._write(node, patch.key, indices)
            return
        if self.mask[patch.source].all():
            return
        table = _initializer(
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
            self.graph, node, [node], [gather], [old], [gather.outputs[0]]
        )

    def _write(self, node: ir.Node, position: int, contents: NDArray[Any]) -> bool:
        """Make an input have these contents; False if it has them already."""
        value = node.inputs[position] if _has(node, position) else None
        if value is None:
            if position >= len(node.inputs):
                node.resize_inputs(position + 1)
            new = _initializer(self.graph, self.taken, f"{node.name}.{position}", contents)
            node.replace_input_with(position, new)
            return True
        name = value.name or ""
        have = self.now.get(name)
        if have is not None and np.array_equal(have.reshape(-1), contents.reshape(-1)):
            return False
        dtype = contents.dtype if have is None else have.dtype
        contents = contents.astype(dtype)
        if have is not None and name not in self.stored and self.facts.bound:
            # It depends on a symbolic size: what slicing changed is added, the rest stays live.
            delta = (contents - have.reshape(contents.shape)).astype(dtype)
            table = _initializer(self.graph, self.taken, f"{name}.change", delta)
            changed = f"{name}.changed.{node.name}"
            add = ir.Node("", "Add", [value, table], num_outputs=1, name=changed)
            add.outputs[0].name = changed
            self.graph.insert_before(node, add)
            node.replace_input_with(position, add.outputs[0])
            return True
        new = _initializer(self.graph, self.taken, f"{name}.pruned", contents)
        node.replace_input_with(position, new)
        return True


def _has(node: ir.Node, position: int) -> bool:
    return position < len(node.inputs) and node.inputs[position] is not None


def remove_dead(graph: ir.Graph) -> None:
    """Remove nodes and initializers that nothing reads."""
    for node in reversed(list(graph)):
        if all(not v.uses() and not v.is_graph_output() for v in node.outputs):
            graph.remove(node, safe=True)
    inputs = {v.name for v in graph.inputs}
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and name not in inputs:
            del graph.initializers[name]

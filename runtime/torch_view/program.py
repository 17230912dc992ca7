"""An ONNX graph as a list of steps, and which of them a result needs."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from prunec.compiler.constants import EVALUATORS, attribute, evaluate
from prunec.compiler.errors import ModelError, UsageError, first_line
from prunec.compiler.ops import op_key
from prunec.compiler.spec import suggest
from prunec.frontends.functions import inlined
from prunec.passes.simplify.sequences import resolve
from prunec.runtime.torch_view.ops import ROWS
from prunec.runtime.torch_view.ops.creation import RANDOM
from prunec.runtime.torch_view.row import Array, Call, Row
from prunec.runtime.torch_view.tensors import from_numpy, to_numpy
from prunec.runtime.torch_view.weights import Stored, stored_tensors, trained

Held = Tensor | Array  # shape arithmetic stays in numpy, so that it asks no device
CONTROL = frozenset(["If", "Loop", "Scan", "SequenceMap"])
SMALL = 64  # floats up to this size may be amounts; larger ones are data
MOST_FOLDED = 10_000_000  # elements of a constant that is computed once instead of every time


class Kind(enum.Enum):
    """How a step takes an input."""

    TENSOR = enum.auto()
    HOST = enum.auto()
    EITHER = enum.auto()


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A node. evaluable: compiler/constants.py can compute it. reads, writes: value names."""

    call: Call
    row: Row
    node: ir.Node
    evaluable: bool
    reads: tuple[str | None, ...]
    kinds: tuple[Kind, ...]
    writes: tuple[str | None, ...]

    def run(self, held: Sequence[Held | None], training: bool, tensor: Tensors) -> Sequence[Held]:
        """The outputs; tensor: (position, array) -> the array as a tensor."""
        if self.evaluable and all(h is None or isinstance(h, np.ndarray) for h in held):
            arrays: Any = held
            found = evaluate(self.node, arrays, [None if h is None else h.shape for h in arrays])
            if found is not None:
                return found
        given: list[Held | None] = []
        for k, (value, kind) in enumerate(zip(held, self.kinds, strict=True)):
            if value is None or kind is Kind.EITHER:
                given.append(value)
            elif kind is Kind.HOST:
                given.append(to_numpy(value) if isinstance(value, Tensor) else value)
            else:
                given.append(value if isinstance(value, Tensor) else tensor(k, value))
        try:
            mode = {"training": training} if self.row.modal else {}
            made = self.row.run(self.call, *given, **mode)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError) as error:
            raise ModelError(
                f"node {self.call.name!r} ({self.call.op}): {first_line(error)}"
            ) from error
        return made if isinstance(made, tuple | list) else (made,)


Tensors = Callable[[int, Array], Tensor]
# Steps, each with the values that nobody reads after it.
Schedule = list[tuple[Step, tuple[str, ...]]]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """source: the model as it came, never changed. inputs: without initializers. constants: what
    is not trained. values: the names of all values that can be asked for. nodes: of the steps.
    """

    source: ir.Model
    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    stored: Stored
    tensors: Mapping[str, ir.TensorProtocol]
    constants: Mapping[str, Held]
    values: frozenset[str]
    nodes: frozenset[str]

    def __deepcopy__(self, _: dict[int, Any]) -> Program:
        return self  # nothing in it changes, and copies of a view share the mapped weights

    def schedule(self, wanted: Sequence[str]) -> Schedule:
        """The steps that `wanted` needs, each with the values that nobody reads after it."""
        for name in wanted:
            if name not in self.values:
                raise UsageError(f"no value {name!r} in the model{suggest(name, self.values)}")
        needed, chosen = set(wanted), []
        for step in reversed(self.steps):
            if any(name in needed for name in step.writes):
                needed.update(name for name in step.reads if name is not None)
                chosen.append(step)
        kept, plan = set(wanted), []
        for step in chosen:
            made = [n for n in (*step.reads, *step.writes) if n is not None]
            dead = tuple(dict.fromkeys(n for n in made if n not in kept))
            kept.update(made)
            plan.append((step, dead))
        return plan[::-1]


def compiled(source: ir.Model) -> Program:
    """The program of a model. Raises ModelError, naming the node, for what has no row."""
    graph = resolve(inlined(source)).graph
    steps = [_step(node, graph) for node in graph if op_key(node) != "Constant"]
    stored = trained(graph, ROWS)
    tensors = stored_tensors(graph)
    kept = {*stored.parameters, *stored.statistics}
    constants: dict[str, Held] = {
        name: _held(tensor.numpy()) for name, tensor in tensors.items() if name not in kept
    }
    for node in graph:
        if op_key(node) == "Constant" and "value" not in node.attributes:
            constants[str(node.outputs[0].name)] = _literal(node)
    steps = _folded(steps, constants)
    inputs = [str(v.name) for v in graph.inputs if v.name not in graph.initializers]
    values = {*inputs, *tensors, *constants, *(n for s in steps for n in s.writes if n)}
    return Program(
        source=source,
        steps=tuple(steps),
        inputs=tuple(inputs),
        outputs=tuple(str(v.name) for v in graph.outputs),
        stored=stored,
        tensors=tensors,
        constants=constants,
        values=frozenset(values),
        nodes=frozenset(step.call.name for step in steps),
    )


def _step(node: ir.Node, graph: ir.Graph) -> Step:
    op = op_key(node)
    row = ROWS.get(op)
    if row is None:
        why = "control flow" if op in CONTROL else "no row for it"
        raise ModelError(
            f"the torch view cannot run node {node.name!r}: operator {op} ({why}); "
            "it cannot be trained through"
        )
    attributes = {name: attribute(node, name) for name in node.attributes}
    attributes.update(row.facts(node))
    version = graph.opset_imports.get(node.domain, 1)
    count = max((k + 1 for k, v in enumerate(node.outputs) if v.name), default=1)
    call = Call(op, str(node.name), version, count, attributes)
    reads = tuple(None if v is None else str(v.name) for v in node.inputs)
    kinds = tuple(_kind(row, k) for k in range(len(reads)))
    writes = tuple(str(v.name) if v.name else None for v in node.outputs)
    return Step(call, row, node, op in EVALUATORS, reads, kinds, writes)


def _kind(row: Row, position: int) -> Kind:
    if position in row.host:
        return Kind.HOST
    return Kind.EITHER if position in row.either else Kind.TENSOR


def _held(array: Array) -> Held:
    """Integers and few floats stay arrays: they may be shapes and amounts."""
    if array.dtype.kind in "iubOSU" or array.size <= SMALL:
        return np.asarray(array)
    return from_numpy(array)


def _literal(node: ir.Node) -> Array:
    """What a Constant node without a tensor holds."""
    (name,) = node.attributes
    if name == "sparse_value":
        raise ModelError(f"node {node.name!r}: the torch view has no sparse tensors")
    kind = np.int64 if "int" in name else np.float32 if "float" in name else np.str_
    return np.asarray(attribute(node, name), kind)


def _folded(steps: Sequence[Step], constants: dict[str, Held]) -> list[Step]:
    """The steps that remain when those of constants alone are computed, into `constants`."""
    rest = []
    with torch.no_grad():
        for step in steps:
            known = all(name is None or name in constants for name in step.reads)
            if not known or step.call.op in RANDOM or step.row.modal:
                rest.append(step)
                continue
            held = [None if name is None else constants[name] for name in step.reads]
            made = step.run(held, False, lambda _, array: from_numpy(array))
            if sum(int(np.prod(m.shape)) for m in made) > MOST_FOLDED:
                rest.append(step)
                continue
            constants.update({n: m for n, m in zip(step.writes, made, strict=False) if n})
    return rest

"""The wiring of control flow: which values of a body are which inputs and outputs of its node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute
from prunec.compiler.ops import op_key

LONGEST = 2**31  # a trip count above this is how exporters write "until the condition fails"
SCAN_SINCE = 9  # before, Scan had a batch axis

Constants = Mapping[str, NDArray[Any]]
# Value before the first iteration, body input, body output, value after the last one.
Carried = tuple[ir.Value, ir.Value, ir.Value, ir.Value | None]


@dataclass(frozen=True, slots=True, eq=False)
class Branches:
    """An If. taken: the branch that runs where the condition is a constant."""

    branches: tuple[ir.Graph, ...]
    taken: ir.Graph | None


@dataclass(frozen=True, slots=True, eq=False)
class Iteration:
    """A Loop. limit, condition: its first two inputs, None where absent."""

    body: ir.Graph
    limit: ir.Value | None
    condition: ir.Value | None
    carried: tuple[Carried, ...]

    @property
    def body_stacked(self) -> tuple[ir.Value, ...]:
        """Body outputs that are stacked over the iterations."""
        return tuple(self.body.outputs[1 + len(self.carried) :])

    def stacked(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """Node outputs that hold them, along a new first axis."""
        return tuple(node.outputs[len(self.carried) :])

    def trips(self, constants: Constants) -> int | None:
        """The number of iterations, where no data decides it."""
        count = _scalar(self.limit, constants)
        goes_on = _scalar(self.body.outputs[0], constants)
        starts = True if self.condition is None else _scalar(self.condition, constants)
        if count is None or count > LONGEST or not goes_on or starts is None:
            return None
        return max(int(count), 0) if starts else 0


@dataclass(frozen=True, slots=True, eq=False)
class Scanned:
    """A Scan. sequences: (input, the axis it is scanned along)."""

    body: ir.Graph
    carried: tuple[Carried, ...]
    sequences: tuple[tuple[ir.Value, int], ...]
    axes: tuple[int, ...]  # of the stacked outputs

    @property
    def body_sequences(self) -> tuple[ir.Value, ...]:
        """Body inputs: one element of each sequence."""
        return tuple(self.body.inputs[len(self.carried) :])

    @property
    def body_stacked(self) -> tuple[ir.Value, ...]:
        """Body outputs that are stacked over the iterations."""
        return tuple(self.body.outputs[len(self.carried) :])

    def stacked(self, node: ir.Node) -> tuple[tuple[ir.Value, int], ...]:
        """Node outputs that hold them, and along which axis."""
        outputs = node.outputs[len(self.carried) :]
        pairs = zip_longest(outputs, self.axes)
        return tuple((value, axis or 0) for value, axis in pairs if value is not None)

    def trips(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        """The length of the sequences."""
        value, axis = self.sequences[0]
        shape = shapes.get(str(value.name))
        return shape[axis % len(shape)] if shape else None


Control = Branches | Iteration | Scanned


def control_of(node: ir.Node, opset: int, constants: Constants) -> Control | None:
    """How a control-flow node is wired; None for other nodes and for forms that do not add up.

    Source: ONNX If, Loop, Scan. opset: of the default domain.
    """
    return READERS[node.op_type](node, opset, constants) if is_control(node) else None


def is_control(node: ir.Node) -> bool:
    """Whether a node is an If, a Loop or a Scan."""
    return op_key(node) in READERS


def _branches(node: ir.Node, _: int, constants: Constants) -> Branches | None:
    then, other = _body(node, "then_branch"), _body(node, "else_branch")
    if then is None or other is None or len(then.outputs) != len(other.outputs):
        return None
    condition = _scalar(node.inputs[0], constants)
    taken = None if condition is None else then if condition else other
    return Branches((then, other), taken)


def _loop(node: ir.Node, _: int, __: Constants) -> Iteration | None:
    body = _body(node, "body")
    limit, condition, *starts = [*node.inputs, None, None][: max(len(node.inputs), 2)]
    carried = _carried(node, body, starts, 2, 1)
    if body is None or carried is None:
        return None
    return Iteration(body, limit, condition, carried)


def _scan(node: ir.Node, opset: int, _: Constants) -> Scanned | None:
    body = _body(node, "body")
    count = attribute(node, "num_scan_inputs", 0)
    states = len(node.inputs) - count
    if opset < SCAN_SINCE or count < 1 or states < 0:
        return None
    carried = _carried(node, body, node.inputs[:states], 0, 0)
    inputs = [v for v in node.inputs[states:] if v is not None]
    axes = attribute(node, "scan_input_axes", ()) or (0,) * count
    if body is None or carried is None or not len(inputs) == len(axes) == count:
        return None
    if len(body.inputs) != len(node.inputs):
        return None
    sequences = tuple(zip(inputs, axes, strict=True))
    return Scanned(body, carried, sequences, tuple(attribute(node, "scan_output_axes", ())))


def _carried(
    node: ir.Node, body: ir.Graph | None, starts: Any, inputs: int, outputs: int
) -> tuple[Carried, ...] | None:
    """inputs, outputs: how many values of the body come before those that are carried."""
    n = len(starts)
    if body is None or any(start is None for start in starts):
        return None
    ins, outs = body.inputs[inputs : inputs + n], body.outputs[outputs : outputs + n]
    if not len(ins) == len(outs) == n or len(body.inputs) < inputs + n:
        return None
    finals = [*node.outputs[:n], *[None] * n][:n]
    return tuple(zip(starts, ins, outs, finals, strict=True))


def _body(node: ir.Node, name: str) -> ir.Graph | None:
    found = node.attributes.get(name)
    is_graph = found is not None and not found.is_ref() and found.type is ir.AttributeType.GRAPH
    return found.as_graph() if found is not None and is_graph else None


def _scalar(value: ir.Value | None, constants: Constants) -> Any:
    array = constants.get(str(value.name)) if value is not None else None
    return None if array is None or array.size != 1 else array.reshape(-1)[0]


READERS = {"If": _branches, "Loop": _loop, "Scan": _scan}

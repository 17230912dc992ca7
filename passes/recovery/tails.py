"""What follows a contraction channel by channel, up to the sum that it is a branch of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.literals import literal
from prunec.compiler.ops import op_key
from prunec.compiler.recovery import Array
from prunec.passes.recovery.moments import FloatArray
from prunec.passes.recovery.storage import stored

PLAIN = frozenset({"Identity", "Dropout"})
Look = Callable[[str], Array]


@dataclass(frozen=True, slots=True)
class Slot:
    """A stored vector that takes up a shift of a contraction's output exactly.

    The vector moves by ``gain`` times the shift; gain is per channel or one number.
    """

    name: str
    gain: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """``z = scale * y + shift`` per channel of the output y of a contraction.

    end: the name of z. slot: where an intercept of y may go, or None. total: the sum that z is an
    operand of, "" where there is none; others: the other operands; minus: the sum subtracts z,
    or others where `others_minus`.
    """

    end: str
    scale: FloatArray
    shift: FloatArray
    slot: Slot | None = None
    total: str = ""
    others: tuple[str, ...] = ()
    sign: float = 1.0
    others_sign: float = 1.0


def tail_of(y: ir.Value, channels: int, axis: int, rank: int) -> Tail:
    """Follow `y`, whose channels lie on `axis` (from the end where negative), while it has one
    reader that works channel by channel. rank: of y.
    """
    scale, shift = np.ones(channels), np.zeros(channels)
    slot: Slot | None = None
    position = axis % rank
    while True:
        reader = _only_reader(y)
        if reader is None:
            break
        step = _step(reader, y, channels, position, rank)
        if step is None:
            break
        gain, offset, name, through = step
        if slot is None and name:
            slot = Slot(name, through * scale)
        scale, shift = scale * gain, shift * gain + offset
        y = reader.outputs[0]
    reader = _only_reader(y)
    tail = Tail(str(y.name), scale, shift, slot)
    if reader is None or op_key(reader) not in ("Add", "Sum", "Sub"):
        return tail
    others = [v for v in reader.inputs if v is not y]
    if len(others) != len(reader.inputs) - 1 or any(
        v is None or literal(v) is not None for v in others
    ):
        return tail
    signs = (1.0, 1.0)
    if op_key(reader) == "Sub":
        signs = (1.0, -1.0) if reader.inputs[0] is y else (-1.0, 1.0)
    return Tail(
        tail.end,
        scale,
        shift,
        slot,
        str(reader.outputs[0].name),
        tuple(str(v.name) for v in others if v is not None),
        *signs,
    )


def _only_reader(y: ir.Value) -> ir.Node | None:
    uses = list(y.uses())
    if y.is_graph_output() or len(uses) != 1:
        return None
    return uses[0][0]


# (gain, offset, name of a stored vector or "", by how much that vector moves per shift of y)
Step = tuple[FloatArray, FloatArray, str, FloatArray]


def _step(node: ir.Node, y: ir.Value, channels: int, axis: int, rank: int) -> Step | None:
    kind = op_key(node)
    none = np.zeros(channels)
    if kind in PLAIN and node.inputs[0] is y and (kind != "Dropout" or len(node.inputs) < 3):
        return np.ones(channels), none, "", none
    if kind == "BatchNormalization" and node.inputs[0] is y and axis == 1:
        return _batch_norm(node, channels)
    if kind in ARITHMETIC and len(node.inputs) == 2:
        first = node.inputs[0] is y
        other = node.inputs[1] if first else node.inputs[0]
        contents = literal(other)
        vector = None if contents is None else _per_channel(contents, channels, axis, rank)
        if vector is None or other is y:
            return None
        whole = contents is not None and contents.size == channels
        name = str(other.name) if whole and other is not None and _alone(other) else ""
        return ARITHMETIC[kind](vector, name, first)
    return None


def _add(vector: FloatArray, name: str, first: bool) -> Step:
    return np.ones_like(vector), vector, name, np.ones_like(vector)


def _sub(vector: FloatArray, name: str, first: bool) -> Step:
    one = np.ones_like(vector)
    return (one, -vector, name, -one) if first else (-one, vector, name, -one)


def _mul(vector: FloatArray, name: str, first: bool) -> Step:
    return vector, np.zeros_like(vector), "", np.zeros_like(vector)


def _div(vector: FloatArray, name: str, first: bool) -> Step | None:
    if not first or not vector.all():
        return None
    return 1 / vector, np.zeros_like(vector), "", np.zeros_like(vector)


ARITHMETIC: Mapping[str, Callable[[FloatArray, str, bool], Step | None]] = {
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
}


def _batch_norm(node: ir.Node, channels: int) -> Step | None:
    if attribute(node, "training_mode", 0) or len(node.outputs) > 1:
        return None
    parts = [literal(v) for v in node.inputs[1:5]]
    if any(part is None or part.shape != (channels,) for part in parts):
        return None
    gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parts if p is not None)
    gain = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    value = node.inputs[3]
    name = str(value.name) if value is not None and _alone(value) else ""
    # The mean is subtracted: a shift of the input by b is a mean that is smaller by b.
    return gain, beta - gain * mean, name, -np.ones(channels)


def _alone(value: ir.Value) -> bool:
    """Whether a value is a stored tensor that one node reads, and nothing stands between."""
    held = stored(value)
    once = len(list(value.uses())) == 1 and not value.is_graph_output()
    return once and held is not None and held.name == value.name


def _per_channel(contents: Array, channels: int, axis: int, rank: int) -> FloatArray | None:
    """A literal that is added to or multiplies channels along `axis`, (channels,); else None."""
    floating = contents.dtype.kind == "f" or contents.dtype.name == "bfloat16"
    if contents.ndim > rank or not floating:
        return None
    full = contents.reshape((1,) * (rank - contents.ndim) + contents.shape)
    if any(n != 1 for k, n in enumerate(full.shape) if k != axis):
        return None
    if full.shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(full.reshape(-1).astype(np.float64), (channels,)).copy()

"""Rows of a contraction: what it reads in the pruned model, and what the dense model gave."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute
from prunec.compiler.literals import literal
from prunec.compiler.ops import op_key
from prunec.compiler.recovery import Batch
from prunec.passes.recovery.moments import FloatArray
from prunec.passes.recovery.places import Sampling, drawn
from prunec.passes.recovery.sites import Use

Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What a use is held against: ``sign * (scale * y + shift) + others = value`` per channel.

    value: of the dense model, the sum that the use is a branch of or the end of its tail. others:
    of the pruned model, with their sign. bounds: what the readers of the value make of it, a clip.
    """

    value: str
    sign: float
    others: tuple[str, ...]
    others_sign: float
    bounds: Bounds | None


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """x: (G, R, D). goal: (G, R, M) the dense value. rest: (G, R, M) what is added to the output
    in the pruned model, of which ``gain`` (G, 1, M) times the output makes the value.
    """

    x: FloatArray
    goal: FloatArray
    rest: FloatArray
    gain: FloatArray

    def targets(self, goal: FloatArray | None = None) -> FloatArray:
        """(G, R, M) of the output itself; 0 where the output has no effect."""
        wanted = (self.goal if goal is None else goal) - self.rest
        useful = self.gain != 0
        return np.asarray(np.where(useful, wanted / np.where(useful, self.gain, 1.0), 0.0))

    def value(self, matrix: FloatArray, shift: FloatArray) -> FloatArray:
        """(G, R, M) the value of the pruned model with this weight and intercept."""
        return np.asarray((self.x @ matrix + shift[:, None, :]) * self.gain + self.rest)


def target_of(
    use: Use, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, ir.Value], residual: bool
) -> Target:
    """shapes: of the dense model. values: of the pruned model. residual: sums count as targets."""
    tail, own = use.tail, shapes[use.y]
    if residual and tail.total and shapes.get(tail.total) == own:
        bounds = bounds_of(values[tail.total])
        return Target(tail.total, tail.sign, tail.others, tail.others_sign, bounds)
    end = tail.end if shapes.get(tail.end) == own else use.y
    return Target(end, 1.0, (), 1.0, bounds_of(values[end]))


def bounds_of(value: ir.Value) -> Bounds | None:
    """The clip that all readers of a value apply, or None."""
    found = {_clip(node) for node, position in value.uses() if position == 0}
    if value.is_graph_output() or len(found) != 1 or any(k for _, k in value.uses()):
        return None
    return found.pop()


def _clip(node: ir.Node) -> Bounds | None:
    if op_key(node) == "Relu":
        return 0.0, np.inf
    if op_key(node) != "Clip":
        return None
    ends = []
    for position, (name, default) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
        given = node.inputs[position] if position < len(node.inputs) else None
        contents = literal(given)
        if given is not None and contents is None:
            return None
        number = attribute(node, name, default) if contents is None else contents
        ends.append(float(np.asarray(number).reshape(-1)[0]))
    return ends[0], ends[1]


def line_up(use: Use, target: Target, batch: Batch) -> bool:
    """Whether both models have the same rows here: NonZero and its like pick them by contents."""
    shape = tuple(batch.dense[target.value].shape)
    if not use.form.agrees(batch.pruned[use.x].shape, shape):
        return False
    return all(_fills(batch.pruned[name].shape, shape) for name in target.others)


def _fills(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether one shape can be broadcast to another."""
    pairs = zip(reversed(given), reversed(shape), strict=False)
    return len(given) <= len(shape) and all(a in (1, b) for a, b in pairs)


def rows_of(
    use: Use, target: Target, batch: Batch, sampling: Sampling, narrow: bool = False
) -> Rows:
    """The rows of one batch, at the places that are looked at.

    narrow: each output is a group of its own, whose only input is itself without its bias.
    """
    value, form = batch.dense[target.value], use.form
    shape = tuple(value.shape)
    places = _places(use, shape, batch, sampling)
    goal = form.outputs(value, places)
    groups, _, outputs = goal.shape
    plain = target.value == use.y
    gain = np.ones((groups, 1, outputs))
    rest = np.zeros_like(goal)
    if not plain:
        gain = target.sign * use.tail.scale.reshape(groups, 1, outputs)
        rest += target.sign * use.tail.shift.reshape(groups, 1, outputs)
    for name in target.others:
        other = np.broadcast_to(batch.pruned[name], shape)
        rest += target.others_sign * form.outputs(other, places)
    if not narrow:
        return Rows(form.rows(batch.pruned[use.x], shape, places), goal, rest, gain)
    y = form.outputs(batch.pruned[use.y], places) - use.bias.reshape(groups, 1, outputs)
    return Rows(*(_apart(part) for part in (y, goal, rest, gain)))


def _apart(array: FloatArray) -> FloatArray:
    """(G, R, M) -> (G * M, R, 1)."""
    turned = array.transpose(0, 2, 1)
    return np.ascontiguousarray(turned).reshape(-1, array.shape[1], 1)


def _places(
    use: Use, shape: tuple[int, ...], batch: Batch, sampling: Sampling
) -> NDArray[np.int64]:
    places, rows = use.form.places(shape)
    most = max(1, -(-sampling.positions * batch.samples // rows))
    name = zlib.crc32(str(use.node.name).encode())
    return drawn(places, most, (sampling.seed, name, batch.number))

"""Nodes that end in a scale and a shift per channel, both stored: norms that no weight absorbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.ops import op_key
from prunec.compiler.recovery import Array, Bench
from prunec.passes.recovery.moments import FloatArray, Moments
from prunec.passes.recovery.places import Sampling, drawn
from prunec.passes.recovery.ridge import Fit, Prior, ridge
from prunec.passes.recovery.storage import stored


@dataclass(frozen=True, slots=True)
class Affine:
    """A node whose output is ``scale * f(x) + shift`` along an axis.

    scale, shift: names of stored vectors that nothing else reads; "" where there is none. place:
    position in the graph.
    """

    node: ir.Node
    y: str
    axis: int
    scale: str
    shift: str
    place: int


# Operator -> input positions of scale and shift, and the axis of the channels.
NORMS: Mapping[str, tuple[int, int, int]] = {
    "BatchNormalization": (1, 2, 1),
    "InstanceNormalization": (1, 2, 1),
    "GroupNormalization": (1, 2, 1),
    "LayerNormalization": (1, 2, -1),
    "RMSNormalization": (1, -1, -1),
    "SimplifiedLayerNormalization": (1, -1, -1),
    "com.microsoft::SkipLayerNormalization": (2, 3, -1),
    "com.microsoft::SkipSimplifiedLayerNormalization": (2, -1, -1),
}


def find_norms(model: ir.Model) -> tuple[Affine, ...]:
    """Norms with a vector of scales of their own, in graph order."""
    found = []
    for place, node in enumerate(model.graph):
        row = NORMS.get(op_key(node))
        if row is None or attribute(node, "training_mode", 0):
            continue
        scale, shift = (_own_vector(node, k) for k in row[:2])
        last = attribute(node, "axis", -1) == -1
        if scale and (row[2] == 1 or last):
            found.append(Affine(node, str(node.outputs[0].name), row[2], scale, shift, place))
    return tuple(found)


def _own_vector(node: ir.Node, position: int) -> str:
    """Name of a stored vector that only this node reads, or ""."""
    value = node.inputs[position] if 0 <= position < len(node.inputs) else None
    held = stored(value)
    if value is None or held is None or held.name != value.name or len(held.shape) != 1:
        return ""
    return held.name if len(list(value.uses())) == 1 and not value.is_graph_output() else ""


def refit_norm(
    bench: Bench,
    norm: Affine,
    sampling: Sampling,
    penalties: Sequence[float] = (),
    refit: bool = True,
) -> tuple[Fit, dict[str, Array]] | None:
    """Scale and shift of each channel by the least squares of its outputs; what to store.

    None where the two models have other numbers of rows: NonZero and its like pick them.
    What the node gives is multiplied and shifted, and so are its own scale and shift.
    """
    names = [name for name in (norm.scale, norm.shift) if name]
    sums: list[Moments] = []
    uneven = False
    for batch in bench.run([norm.y], [norm.y], names):
        x, y = (_channels(v[norm.y], norm.axis) for v in (batch.pruned, batch.dense))
        if x.shape != y.shape:
            uneven = True  # and go on: a run has to be taken to its end
            continue
        seed = (sampling.seed, norm.place, batch.number)
        places = drawn(x.shape[1], sampling.positions * batch.samples, seed)
        sums = sums or [Moments.empty(len(x), 1, 1) for _ in range(2)]
        sums[batch.held].add(x[:, places], y[:, places])
    if uneven:
        return None
    channels = len(sums[0].x)
    prior = Prior(np.ones((channels, 1, 1)), np.zeros((channels, 1)), bool(norm.shift))
    fit = ridge(sums[0], sums[1], prior, penalties, refit)
    gain = fit.line.matrix.reshape(-1)
    new: dict[str, Array] = {norm.scale: bench.contents(norm.scale).astype(np.float64) * gain}
    if norm.shift:
        old = bench.contents(norm.shift).astype(np.float64)
        new[norm.shift] = old * gain + fit.line.shift.reshape(-1)
    return fit, new


def _channels(array: Array, axis: int) -> FloatArray:
    """(C, R, 1)."""
    moved = np.moveaxis(array, axis, 0)
    return moved.reshape(len(moved), -1, 1).astype(np.float64)

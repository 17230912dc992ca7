"""The integers of a stored weight: its grid, and which of them each element becomes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.quantisation import FloatArray, Grid, Products, Quantiser, Rounding
from prunec.compiler.recovery import Array
from prunec.passes.quantize.ranges.mse import along_rows
from prunec.passes.quantize.ranges.search import each_end
from prunec.passes.recovery.forms import Form
from prunec.passes.recovery.storage import Stored


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the data says of the inputs of a weight; see `Products`. (G, D, D) each.

    energy: mean square of the float outputs, without a bias, summed over the outputs.
    """

    moments: FloatArray
    cross: FloatArray | None = None
    energy: float | None = None

    def relative_error(self, matrix: FloatArray, new: FloatArray) -> float:
        """``|q W' - x W|^2 / |x W|^2`` of a weight W, (G, D, M), that becomes W'."""
        if self.cross is None or self.energy is None:
            change, whole = (float((w * (self.moments @ w)).sum()) for w in (new - matrix, matrix))
        else:
            whole = self.energy
            change = whole + float((new * (self.moments @ new - 2 * self.cross @ matrix)).sum())
        return max(change, 0.0) / whole if whole > 0 else 0.0


def weight_grid(
    weight: Array,
    quantiser: Quantiser,
    bits: int,
    axis: int | None = None,
    *,
    block: int = 0,
    searched: bool = True,
    worth: Array | None = None,
) -> Grid:
    """The grid of a stored weight: per tensor (axis None), per index of an axis, or, with a block,
    per so many indices in a row on the axis and per index of every other axis.

    searched: the range with the least squared error, else from the smallest to the largest value.
    worth: what the square of each element counts, broadcastable to the weight; 1 without.
    """
    rows, shape = _rows(np.asarray(weight, np.float64), axis, block)
    along = None if axis is None and not block else 0
    low, high = rows.min(axis=1), rows.max(axis=1)

    def alone(low: FloatArray, high: FloatArray) -> Grid:
        return quantiser.alone()(low, high, bits, along)

    if searched:
        counts = None
        if worth is not None:
            counts, _ = _rows(np.broadcast_to(worth, weight.shape), axis, block)

        def lost(grid: Grid) -> FloatArray:
            gaps = np.square(rows - along_rows(grid, rows))
            return np.asarray((gaps if counts is None else gaps * counts).sum(axis=1))

        low, high, _ = each_end(low, high, alone, lost)
    grid = quantiser(low, high, bits, along)
    if not block:
        return Grid(bits, grid.signed, grid.scale, grid.zero, axis)
    assert axis is not None, "blocks lie along an axis"
    scale = np.moveaxis(grid.scale.reshape(shape), -1, axis)
    zero = np.moveaxis(grid.zero.reshape(shape), -1, axis)
    return Grid(bits, grid.signed, scale, zero, axis, block)


def _rows(weight: FloatArray, axis: int | None, block: int) -> tuple[FloatArray, tuple[int, ...]]:
    """(scales, elements of each), and the shape of the scales with the axis last."""
    if axis is None:
        return weight.reshape(1, -1), (1,)
    if not block:
        turned = np.moveaxis(weight, axis, 0)
        return turned.reshape(len(turned), -1), (len(turned),)
    turned = np.moveaxis(weight, axis, -1)
    short = -turned.shape[-1] % block
    # What fills the last block is 0, which every grid has exactly.
    filled = np.pad(turned, [(0, 0)] * (turned.ndim - 1) + [(0, short)])
    number = filled.shape[-1] // block
    return filled.reshape(-1, block), (*turned.shape[:-1], number)


def rounded(
    form: Form,
    weight: Array,
    grid: Grid,
    rounding: Rounding,
    evidence: Evidence | None = None,
    layout: Stored | None = None,
) -> NDArray[np.int32]:
    """The integers of a weight, as it is stored.

    form: how its node multiplies it; layout: the transposition through which it reads it, if any.
    """
    found = rounding(products(form, weight, grid, evidence, layout))
    seen = layout.shape if layout else weight.shape
    # `Form.stored` undoes the factor of a Gemm, which integers have none of.
    whole = form.stored(np.asarray(found * _factor(form, seen), np.float64), seen)
    return np.rint(layout.write(whole) if layout else whole).astype(np.int32)


def products(
    form: Form,
    weight: Array,
    grid: Grid,
    evidence: Evidence | None = None,
    layout: Stored | None = None,
) -> Products:
    """A weight as the matrices that it is rounded as; see `rounded`."""
    parts = (weight, *grid.spread(weight.shape))
    whole = [np.broadcast_to(part, weight.shape).astype(np.float64) for part in parts]
    seen = [layout.read(part) if layout else part for part in whole]
    matrix, scale, zero = (form.matrix(part) for part in seen)
    return Products(
        matrix,
        scale,
        np.rint(zero / _factor(form, seen[0].shape)).astype(np.int64),
        grid.low,
        grid.high,
        None if evidence is None else evidence.moments,
        None if evidence is None else evidence.cross,
    )


def _factor(form: Form, shape: tuple[int, ...]) -> float:
    """What `Form.matrix` multiplies a weight with: the alpha of a Gemm."""
    return float(form.matrix(np.ones(shape)).reshape(-1)[0])


def shift_of(
    matrix: FloatArray, rounded: FloatArray, mean: FloatArray, seen: FloatArray
) -> FloatArray:
    """(G, M) what a bias must gain so that the mean output stays.

    matrix: (G, D, M) of the float model; mean: (G, D) of its inputs. rounded, seen: the same of the
    quantised model. Source: Nagel et al., Data-free quantization, ICCV 2019, section 4.2.
    """
    return np.asarray(
        np.einsum("gd,gdm->gm", mean, matrix) - np.einsum("gd,gdm->gm", seen, rounded)
    )

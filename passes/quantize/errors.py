"""What quantising a stored weight costs: the error of its layer, and what the outputs lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunec.compiler.gram import Gram
from prunec.compiler.quantisation import FloatArray, Quantiser, Rounding
from prunec.compiler.recovery import Array
from prunec.passes.quantize.places import WeightPlace
from prunec.passes.quantize.weights import Evidence, rounded, weight_grid
from prunec.passes.recovery.forms import Form

FLOAT_BITS = 32  # of a weight that is not quantised


@dataclass(frozen=True, slots=True, eq=False)
class Sensitivity:
    """What a stored weight costs at each number of bits, all others being float.

    bits: ascending. error: (len(bits),) squared error of the outputs of its nodes, relative to
    their square, summed over the nodes; see `relative_error`. loss: (len(bits),) what the outputs
    of the model lose, in nats (`runtime/output_loss.py`); empty where that was not measured.
    """

    weight: str
    bits: tuple[int, ...]
    error: FloatArray
    loss: FloatArray

    def errors(self) -> FloatArray:
        """(len(bits),) errors that don't rise with the bits: what is above noise decides."""
        return falling(self.error)

    def losses(self) -> FloatArray:
        """The same of the losses."""
        return falling(self.loss)


def falling(costs: FloatArray) -> FloatArray:
    """The least function above `costs` that never rises from left to right."""
    return np.asarray(np.maximum.accumulate(costs[::-1])[::-1])


def relative_error(gram: Gram, matrix: FloatArray) -> float:
    """``tr(E' C E) / tr(W' C W)``, E the change of the weight, C the second moments of its inputs.

    matrix: (G, D, M) in the place of `gram.matrix`. C is about the mean where a bias takes up a
    shift of the outputs. 0 where the layer computes nothing but 0.
    """
    moments = gram.covariance()
    change, whole = (
        float(np.einsum("gdm,gde,gem->", w, moments, w))
        for w in (matrix - gram.matrix, gram.matrix)
    )
    return max(change, 0.0) / whole if whole > 0 else 0.0


def quantised(
    weight: Array,
    place: WeightPlace,
    bits: int,
    form: Form,
    quantiser: Quantiser,
    rounding: Rounding,
    grams: Sequence[Gram] = (),
) -> Array:
    """What a stored weight is after quantising to so many bits; the dtype stays.

    grams: of the nodes that read it, for roundings that look at data.
    """
    if bits >= FLOAT_BITS:
        return weight
    axis = place.input if place.block else place.axis
    grid = weight_grid(weight, quantiser, bits, axis, block=place.block)
    moments = [gram.covariance() for gram in grams]
    evidence = Evidence(np.sum(moments, axis=0)) if moments else None
    codes = rounded(form, weight, grid, rounding, evidence)
    return grid.values(codes).astype(weight.dtype)

"""Gemm and MatMul with a stored matrix on either side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute
from prunec.compiler.recovery import Array
from prunec.passes.recovery.moments import FloatArray

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Product:
    """``y = scale * x W + bias_scale * b`` over the last axis, or ``W x`` over the one before it.

    left: the weight stands left, so that columns of x are rows. turned: the stored matrix is the
    transpose of what the product takes (inputs first); data_turned: so is the data.
    """

    data: int
    weight: int
    bias: int | None = None
    scale: float = 1.0
    bias_scale: float = 1.0
    left: bool = False
    turned: bool = False
    data_turned: bool = False

    @property
    def source_axis(self) -> int:
        """Summed over: the last axis of x where the weight stands right."""
        return -2 if self.left != self.data_turned else -1

    @property
    def target_axis(self) -> int:
        """The last axis of y where the weight stands right."""
        return -2 if self.left else -1

    def places(self, y: tuple[int, ...]) -> tuple[int, int]:
        """Every row is one place."""
        return int(np.prod(y)) // y[self.target_axis], 1

    def agrees(self, x: tuple[int, ...], y: tuple[int, ...]) -> bool:
        """Whether inputs of shape x make outputs of shape y, by the number of rows."""
        return int(np.prod(x)) // x[self.source_axis] == self.places(y)[0]

    def _flat(self, array: Array, axis: int, places: Places) -> FloatArray:
        rows = np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])
        return rows[places][None].astype(np.float64)

    def rows(self, x: Array, y: tuple[int, ...], places: Places) -> FloatArray:
        """(1, R, D)."""
        return self._flat(x, self.source_axis, places)

    def outputs(self, y: Array, places: Places) -> FloatArray:
        """(1, R, M)."""
        return self._flat(y, self.target_axis, places)

    def matrix(self, weight: Array) -> FloatArray:
        """(1, D, M); the scale is a part of it."""
        inputs_first = weight.T if self.turned else weight
        return np.asarray(inputs_first[None].astype(np.float64) * self.scale)

    def stored(self, matrix: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """A weight of that shape."""
        own = matrix[0] / self.scale
        return np.asarray(own.T if self.turned else own).reshape(shape)

    def sources(self, channels: int, columns: int) -> Places:
        """(1, D): one column per channel."""
        return np.arange(columns, dtype=np.int64)[None]


def gemm(node: ir.Node, position: int, shape: tuple[int, ...]) -> Product | None:
    """``alpha A B + beta C``, each perhaps transposed; ONNX Gemm."""
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    if position > 1 or alpha == 0:
        return None
    left = position == 0
    own, other = ("transA", "transB") if left else ("transB", "transA")
    return Product(
        data=1 - position,
        weight=position,
        bias=None if left else 2,  # what is added to rows is no shift of what a left weight makes
        scale=float(alpha),
        bias_scale=float(beta),
        left=left,
        turned=bool(attribute(node, own, 0)) != left,
        data_turned=bool(attribute(node, other, 0)),
    )


def matmul(node: ir.Node, position: int, shape: tuple[int, ...]) -> Product | None:
    """``A B`` with one stored matrix; ONNX MatMul. None for stacks of matrices and vectors."""
    if len(shape) != 2 or position > 1:
        return None
    return Product(1 - position, position, left=position == 0, turned=position == 0)

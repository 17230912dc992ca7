"""GPTQ: weights are rounded one input after the other, later inputs making up for earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.errors import UsageError
from prunec.compiler.quantisation import FloatArray, IntArray, Products
from prunec.compiler.spec import suggest
from prunec.passes.quantize.rounding.nearest import Nearest

ORDERS = ("activation", "natural")
WIDTH = 128  # inputs that are rounded before the rest hears of it, in one product of matrices
TRIES = 6  # of a larger ridge, where the moments are not positive definite


@dataclass(frozen=True, slots=True)
class Gptq:
    """Second-order rounding: the integers with a small error of the layer's output.

    Minimises ``|q W' - x W|^2`` over the rows of calibration data greedily, then by coordinate
    descent. ridge: added to the moments, relative to their mean diagonal. order: activation, inputs
    of large second moment first; natural, as stored. sweeps: at most so many rounds of changing one
    integer at a time to the best of its values with all others held. A weight that is exactly 0
    stays 0. Without data it is `nearest`.
    Source: Frantar et al., GPTQ, ICLR 2023, in its equal form as Babai's nearest plane on a factor
    of the moments, which needs no inverse (Chen et al., 2025, arXiv 2507.18553).
    """

    name: ClassVar[str] = "gptq"
    needs_data: ClassVar[bool] = True
    ridge: float = 0.01
    order: str = "activation"
    sweeps: int = 1

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise UsageError(
                f"rounding 'gptq': unknown order {self.order!r}{suggest(self.order, ORDERS)}"
            )
        if not self.ridge > 0 or self.sweeps < 0:
            raise UsageError("rounding 'gptq': ridge must be above 0 and sweeps at least 0")

    def __call__(self, products: Products) -> IntArray:
        """(G, D, M). Complexity O(G D^2 (D + M))."""
        p = products
        if p.moments is None:
            return Nearest()(p)
        out = np.empty(p.matrix.shape, np.int64)
        for g, moments in enumerate(p.moments):
            cross = None if p.cross is None else p.cross[g]
            target, hessian, factor, order = self._posed(p.matrix[g], moments, cross)
            column = Column(
                target[order],
                np.broadcast_to(p.scale, p.matrix.shape)[g][order],
                np.broadcast_to(p.zero, p.matrix.shape)[g][order],
                p.matrix[g][order] == 0,
                p.low,
                p.high,
            )
            codes = column.planes(factor)
            for _ in range(self.sweeps):
                codes, moved = column.descended(codes, hessian)
                if not moved:
                    break
            out[g][order] = codes
        return out

    def _posed(
        self, matrix: FloatArray, moments: FloatArray, cross: FloatArray | None
    ) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
        """The float weight that is best for these inputs, (D, M), as stored; then, in the order
        of rounding, the moments with the ridge and their upper factor R, ``R R^T``; the order.
        """
        size = len(moments)
        diagonal = np.diagonal(moments)
        unit = float(diagonal.mean()) or 1.0
        order: IntArray = np.arange(size, dtype=np.int64)
        if self.order == "activation":
            order = np.argsort(-diagonal, kind="stable").astype(np.int64)
        ridge = self.ridge
        for _ in range(TRIES):
            hessian = moments[np.ix_(order, order)]
            hessian[np.arange(size), np.arange(size)] += ridge * unit
            try:
                # Of the matrix turned about, a lower factor is an upper one of the matrix itself.
                factor = np.linalg.cholesky(hessian[::-1, ::-1])[::-1, ::-1].copy()
                break
            except np.linalg.LinAlgError:
                ridge *= 10
        else:
            raise AssertionError("moments are not those of any rows")
        target = matrix
        if cross is not None:
            # |q W' - x W|^2 is least at H^-1 C W; the ridge holds it to W.
            gap = ((cross - moments) @ matrix)[order]
            target = matrix.copy()
            target[order] += np.linalg.solve(hessian, gap)
        return target, hessian, np.asarray(factor, np.float64), order


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """All outputs of one group: target, scale, zero (D, M), in the order of rounding.

    fixed: (D, M) what stays 0.
    """

    target: FloatArray
    scale: FloatArray
    zero: IntArray
    fixed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    low: int
    high: int

    def planes(self, factor: FloatArray) -> IntArray:
        """Integers by nearest planes.

        With ``H = R R^T`` the squared error is that of the rows of ``R^T e``, e the error of the
        weight; row j holds the errors of inputs up to j, so integer j is the one that makes it
        least, given those before it.
        """
        size = len(self.target)
        codes = np.empty(self.target.shape, np.int64)
        error = np.zeros(self.target.shape)
        for first in range(0, size, WIDTH):
            own = slice(first, min(first + WIDTH, size))
            carried = factor[:first, own].T @ error[:first]
            for j in range(own.start, own.stop):
                inner = slice(first, j)
                # Of this row of R^T e, what the inputs before it have made.
                made = carried[j - first] + factor[inner, j] @ error[inner]
                wanted = self.target[j] + made / factor[j, j]
                codes[j] = self._integer(wanted, j)
                error[j] = self.target[j] - (codes[j] - self.zero[j]) * self.scale[j]
        return codes

    def descended(self, codes: IntArray, hessian: FloatArray) -> tuple[IntArray, bool]:
        """One round over the inputs, each integer to the best with the others held; whether any
        changed. The error never rises.
        """
        codes = codes.copy()
        slope = hessian @ (self.target - (codes - self.zero) * self.scale)
        moved = False
        for first in range(0, len(codes), WIDTH):
            own = slice(first, min(first + WIDTH, len(codes)))
            change = np.zeros(self.target[own].shape)
            inner = hessian[own, own]
            for k, j in enumerate(range(own.start, own.stop)):
                # Lazily: what the changes so far in this stretch have made of the slope.
                here = slope[j] - inner[k, :k] @ change[:k]
                value = (codes[j] - self.zero[j]) * self.scale[j]
                better = self._integer(value + here / inner[k, k], j)
                change[k] = (better - codes[j]) * self.scale[j]
                codes[j] = better
            moved = moved or bool(change.any())
            slope -= hessian[:, own] @ change
        return codes, moved

    def _integer(self, wanted: FloatArray, j: int) -> IntArray:
        """(M,) the nearest integers of input j to these values."""
        rounded = np.rint(wanted / self.scale[j]) + self.zero[j]
        inside = np.clip(rounded, self.low, self.high).astype(np.int64)
        return np.asarray(np.where(self.fixed[j], self.zero[j], inside), np.int64)

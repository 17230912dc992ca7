"""Sums of products over rows, added up batch by batch in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Moments:
    """Sums over R rows of inputs x (G, R, D) and targets y (G, R, M).

    xx: (G, D, D), x: (G, D), xy: (G, D, M), y: (G, M), yy: (G, M). Grows by `add`; memory does not.
    """

    xx: FloatArray
    x: FloatArray
    xy: FloatArray
    y: FloatArray
    yy: FloatArray
    rows: int = 0

    @classmethod
    def empty(cls, groups: int, inputs: int, outputs: int) -> Moments:
        """All zero."""
        return cls(
            np.zeros((groups, inputs, inputs)),
            np.zeros((groups, inputs)),
            np.zeros((groups, inputs, outputs)),
            np.zeros((groups, outputs)),
            np.zeros((groups, outputs)),
        )

    def add(self, x: FloatArray, y: FloatArray) -> None:
        """More rows. x: (G, R, D); y: (G, R, M); float64."""
        across = np.swapaxes(x, 1, 2)
        for g in range(len(x)) if x.shape[2] > 1 else ():
            self.xx[g] += across[g] @ x[g]  # one matrix: BLAS takes the symmetric product
        if x.shape[2] == 1:
            self.xx += across @ x
        self.xy += across @ y
        self.x += x.sum(axis=1)
        self.y += y.sum(axis=1)
        self.yy += np.einsum("grm,grm->gm", y, y)
        self.rows += x.shape[1]

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.xx + other.xx,
            self.x + other.x,
            self.xy + other.xy,
            self.y + other.y,
            self.yy + other.yy,
            self.rows + other.rows,
        )

    def finite(self) -> bool:
        """Whether no sum overflowed or met a NaN."""
        return bool(np.isfinite(self.xx).all() and np.isfinite(self.yy).all())

    def centred(self) -> Moments:
        """The same about the means of x and y."""
        n = max(self.rows, 1)
        x, y = self.x / n, self.y / n
        return Moments(
            self.xx - n * x[:, :, None] * x[:, None, :],
            np.zeros_like(self.x),
            self.xy - n * x[:, :, None] * y[:, None, :],
            np.zeros_like(self.y),
            np.maximum(self.yy - n * y * y, 0.0),
            self.rows,
        )

    def error(self, matrix: FloatArray, shift: FloatArray) -> FloatArray:
        """(G, M) sum of ``(y - x W - b)^2`` over the rows. matrix: (G, D, M); shift: (G, M)."""
        through = np.einsum("gdm,gdm->gm", matrix, self.xx @ matrix - 2 * self.xy)
        linear = np.einsum("gd,gdm->gm", self.x, matrix) - self.y
        total = self.yy + through + shift * (2 * linear + self.rows * shift)
        return np.asarray(np.maximum(total, 0.0))

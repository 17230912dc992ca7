"""Second moments of what a stored weight multiplies: what can be known of its re-solving."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.hypergraph import Axis

FloatArray = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Gram:
    """A contraction as rows times a matrix, per group: ``y = x W + b``, summed over R rows.

    node, weight: names. source: the activation (and its axis) whose channels the columns of x are;
    target: the same of y. sources: (G, D) index on the source axis of each column (several columns
    of one channel where there is a kernel); targets: (G, M) index on the target axis.
    moments: (G, D, D) sum of ``x^T x``. sums: (G, D) sum of x. matrix: (G, D, M) the dense weight.
    rows: R, samples times positions that were looked at. intercept: whether a bias or a norm
    behind it takes up a shift of y exactly, so that x may be centred.
    """

    node: str
    weight: str
    source: Axis
    target: Axis
    sources: Indices
    targets: Indices
    moments: FloatArray
    sums: FloatArray
    matrix: FloatArray
    rows: int
    intercept: bool

    def covariance(self) -> FloatArray:
        """(G, D, D) second moments per row; about the mean where there is an intercept."""
        if not self.intercept:
            return self.moments / self.rows
        mean = self.sums / self.rows
        return self.moments / self.rows - mean[:, :, None] * mean[:, None, :]

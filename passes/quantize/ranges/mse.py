"""MSE: the range with the least squared rounding error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.quantisation import Fit, FloatArray, Grid
from prunec.passes.quantize.ranges.histogram import Histogram
from prunec.passes.quantize.ranges.search import each_end


@dataclass(frozen=True, slots=True)
class Mse:
    """The range with the least ``sum (x - fake(x))^2`` for this quantiser and number of bits.

    Values between the chosen ends round, those outside saturate.
    """

    name: ClassVar[str] = "mse"

    def start(self, channels: int) -> _Squares:
        """Nothing seen."""
        return _Squares(Histogram(channels))


@dataclass(slots=True)
class _Squares:
    histogram: Histogram

    def add(self, batch: NDArray[Any]) -> None:
        self.histogram.add(batch)

    def ranges(self, fit: Fit) -> tuple[FloatArray, FloatArray]:
        seen = self.histogram
        counts = seen.ascending()
        used = np.flatnonzero(counts.any(axis=0))
        if not used.size:
            return np.zeros(len(counts)), np.zeros(len(counts))
        counts, centres = counts[:, used], seen.centres()[:, used]

        def lost(grid: Grid) -> FloatArray:
            gaps = np.square(centres - along_rows(grid, centres))
            return np.asarray(np.einsum("nb,nb->n", counts, gaps), np.float64)

        low, high, _ = each_end(seen.low, seen.high, fit, lost)
        return low, high


def along_rows(grid: Grid, rows: FloatArray) -> FloatArray:
    """(n, values) what a grid of n scales makes of row k with its k-th."""
    scale, zero = (part.reshape(-1, 1) for part in (grid.scale.astype(np.float64), grid.zero))
    rounded = np.clip(np.rint(rows / scale), grid.low - zero, grid.high - zero)
    return np.asarray(rounded * scale)

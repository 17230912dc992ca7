"""Percentile: the ends of the range leave out the rarest values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.errors import UsageError
from prunec.compiler.quantisation import Fit, FloatArray
from prunec.passes.quantize.ranges.histogram import BINS, Histogram


@dataclass(frozen=True, slots=True)
class Percentile:
    """What holds p percent of the values, as many left out below as above.

    p: in (50, 100]. Exact to the width of a bin, a 2048th of the largest ``|x|`` at most.
    """

    name: ClassVar[str] = "percentile"
    p: float = 99.99

    def __post_init__(self) -> None:
        if not 50 < self.p <= 100:
            raise UsageError(f"range 'percentile': p must be above 50, at most 100, not {self.p}")

    def start(self, channels: int) -> _Tails:
        """Nothing seen."""
        return _Tails(self.p, Histogram(channels))


@dataclass(slots=True)
class _Tails:
    p: float
    histogram: Histogram

    def add(self, batch: NDArray[Any]) -> None:
        self.histogram.add(batch)

    def ranges(self, fit: Fit) -> tuple[FloatArray, FloatArray]:
        del fit
        seen = self.histogram
        counts, edges = seen.ascending(), seen.edges()
        counts[:, BINS] += seen.zeros
        cut = counts.sum(axis=1, keepdims=True) * (100 - self.p) / 200
        # The outer edge of the first bin, from outside, up to which more than `cut` values lie.
        below = (np.cumsum(counts, axis=1) > cut).argmax(axis=1)
        above = (np.cumsum(counts[:, ::-1], axis=1) > cut).argmax(axis=1)
        rows = np.arange(len(counts))
        low = edges[rows, below]
        high = edges[rows, edges.shape[1] - 1 - above]
        empty = counts.sum(axis=1) == 0
        low, high = np.maximum(low, seen.low), np.minimum(high, seen.high)
        return np.where(empty, 0.0, low), np.where(empty, 0.0, high)

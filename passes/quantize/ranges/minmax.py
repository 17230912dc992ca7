"""Min and max, over everything or as a running mean over batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.quantisation import Fit, FloatArray


@dataclass(frozen=True, slots=True)
class MinMax:
    """The smallest and the largest value.

    running: the mean over batches of each batch's, ``m <- (t m + m_t) / (t + 1)``, which a single
    outlier moves less. absolute: of ``|x|``, so that the range is symmetric where anything is
    negative: with running the published mean of symmetric scales. Source: mdpi2022,
    `AdaptiveQuantizer` (running) and `ScalerQuantizer` (running, absolute).
    """

    name: ClassVar[str] = "minmax"
    running: bool = False
    absolute: bool = False

    def start(self, channels: int) -> _Ends:
        """Nothing seen."""
        unseen = np.zeros(channels)
        return _Ends(self.running, self.absolute, unseen, unseen, np.full(channels, False))


@dataclass(slots=True)
class _Ends:
    """Sums or extremes of the ends of batches. negative: (n,) whether anything was below 0."""

    running: bool
    absolute: bool
    low: FloatArray
    high: FloatArray
    negative: NDArray[np.bool_]
    batches: int = field(default=0)

    def add(self, batch: NDArray[Any]) -> None:
        if not batch.shape[1]:
            return
        low, high = batch.min(axis=1).astype(np.float64), batch.max(axis=1).astype(np.float64)
        self.negative = self.negative | (low < 0)
        if self.absolute:
            high = np.maximum(np.abs(low), np.abs(high))
            low = -high
        if self.running:
            self.low, self.high = self.low + low, self.high + high
        elif self.batches:
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        else:
            self.low, self.high = low, high
        self.batches += 1

    def ranges(self, fit: Fit) -> tuple[FloatArray, FloatArray]:
        del fit  # what is seen is the range, whatever grid it gets
        number = max(self.batches, 1) if self.running else 1
        low, high = self.low / number, self.high / number
        return (np.where(self.negative, low, 0.0) if self.absolute else low), high

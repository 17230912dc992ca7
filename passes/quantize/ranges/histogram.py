"""A histogram that grows with what it is shown, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.quantisation import FloatArray

Counts = NDArray[np.int64]
BINS = 2048  # on each side of 0; between half of them and all are in use
PIECE = 2**20  # values that are counted at once, so that no temporary is larger than a few of these
SHALLOWEST = -126  # the power of two that holds what is 0 or not a normal float32


class Histogram:
    """Counts per channel of values below and from 0 on, in `BINS` bins each, on ``[0, 2^e)``.

    e is the least power of two that holds the largest ``|x|`` so far, per channel: when it rises,
    bins merge in pairs. What it holds depends neither on the order of values nor on the batches.
    low, high: (n,) the smallest and the largest value. counts: (n, 2, BINS), negative side first,
    without the zeros, whose number is (n,): every grid has them exactly.
    """

    def __init__(self, channels: int) -> None:
        self.counts: Counts = np.zeros((channels, 2, BINS), np.int64)
        self.zeros = np.zeros(channels, np.int64)
        self.powers = np.full(channels, SHALLOWEST, np.int64)
        self.low: FloatArray = np.full(channels, np.inf)
        self.high: FloatArray = np.full(channels, -np.inf)

    def add(self, batch: NDArray[Any]) -> None:
        """(n, values)."""
        if not batch.shape[1]:
            return
        low, high = batch.min(axis=1).astype(np.float64), batch.max(axis=1).astype(np.float64)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self._widen(np.maximum(np.abs(low), np.abs(high)))
        many = max(1, PIECE // batch.shape[1])
        for first in range(0, len(batch), many):
            rows = slice(first, first + many)
            for start in range(0, batch.shape[1], PIECE):
                self._count(batch[rows, start : start + PIECE], rows)

    def edges(self) -> FloatArray:
        """(n, 2 BINS + 1) ends of the bins, ascending."""
        unit = np.arange(-BINS, BINS + 1) / BINS
        return np.asarray(np.exp2(self.powers.astype(np.float64))[:, None] * unit)

    def centres(self) -> FloatArray:
        """(n, 2 BINS) middles of the bins, ascending, none outside of low and high."""
        edges = self.edges()
        middles = (edges[:, :-1] + edges[:, 1:]) / 2
        return np.asarray(np.clip(middles, self.low[:, None], self.high[:, None]))

    def ascending(self) -> Counts:
        """(n, 2 BINS) the counts, in the order of `centres`."""
        return np.concatenate([self.counts[:, 0, ::-1], self.counts[:, 1]], axis=1)

    def _widen(self, largest: FloatArray) -> None:
        _, exponents = np.frexp(largest)  # largest < 2^e, >= 2^(e-1)
        powers = np.maximum(np.where(largest > 0, exponents, SHALLOWEST), self.powers)
        for channel in np.flatnonzero(powers > self.powers).tolist():
            merge = int(min(powers[channel] - self.powers[channel], BINS.bit_length() - 1))
            kept = BINS >> merge
            merged = self.counts[channel].reshape(2, kept, -1).sum(axis=2)
            self.counts[channel] = 0
            self.counts[channel, :, :kept] = merged
        self.powers = powers

    def _count(self, piece: NDArray[Any], rows: slice) -> None:
        scale = np.exp2(-self.powers[rows].astype(np.float64)) * BINS
        bins = np.minimum((np.abs(piece) * scale[:, None]).astype(np.int64), BINS - 1)
        bins += np.where(piece < 0, 0, BINS)
        bins += 2 * BINS * np.arange(len(piece))[:, None]
        found = np.bincount(bins.reshape(-1), minlength=len(piece) * 2 * BINS).reshape(-1, 2, BINS)
        zeros = (piece == 0).sum(axis=1)
        found[:, 1, 0] -= zeros
        self.zeros[rows] += zeros
        self.counts[rows] += found

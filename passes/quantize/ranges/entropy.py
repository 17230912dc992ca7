"""Entropy: the threshold at which the quantised distribution is nearest to the float one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.quantisation import Fit, FloatArray, Grid
from prunec.passes.quantize.ranges.histogram import Histogram
from prunec.passes.quantize.ranges.search import both_ends


@dataclass(frozen=True, slots=True)
class Entropy:
    """The threshold on ``|x|`` with the least Kullback-Leibler divergence.

    p: the histogram, with what lies outside added to the outermost bins inside. q: what lies
    inside, the bins of one integer sharing their counts evenly (empty ones get none). Source:
    Migacz, 8-bit inference with TensorRT, GTC 2017; here the integers are those of the quantiser.
    """

    name: ClassVar[str] = "entropy"

    def start(self, channels: int) -> _Distribution:
        """Nothing seen."""
        return _Distribution(Histogram(channels))


@dataclass(slots=True)
class _Distribution:
    histogram: Histogram

    def add(self, batch: NDArray[Any]) -> None:
        self.histogram.add(batch)

    def ranges(self, fit: Fit) -> tuple[FloatArray, FloatArray]:
        seen = self.histogram
        counts, centres = seen.ascending(), seen.centres()
        used = np.flatnonzero(counts.any(axis=0))
        if not used.size:
            return np.zeros(len(counts)), np.zeros(len(counts))
        own, places = counts[:, used].astype(np.float64), centres[:, used]
        low, high, _ = both_ends(
            seen.low, seen.high, fit, lambda grid: divergences(own, places, grid)
        )
        return low, high


def divergences(counts: FloatArray, centres: FloatArray, grid: Grid) -> FloatArray:
    """(n,) divergence in nats of each channel's histogram from what a grid makes of it.

    counts, centres: (n, bins), ascending. Infinite where nothing lies inside.
    """
    scale, zero = (part.reshape(-1, 1) for part in (grid.scale.astype(np.float64), grid.zero))
    places = np.rint(centres / scale)
    codes = np.clip(places, grid.low - zero, grid.high - zero)
    inside = places == codes
    kept = np.where(inside, counts, 0.0)
    rows, bins = counts.shape
    first, last = inside.argmax(axis=1), bins - 1 - inside[:, ::-1].argmax(axis=1)
    index = np.arange(bins)
    whole = kept.copy()
    whole[np.arange(rows), first] += np.where(index < first[:, None], counts, 0.0).sum(axis=1)
    whole[np.arange(rows), last] += np.where(index > last[:, None], counts, 0.0).sum(axis=1)
    # Each integer's counts go evenly to those of its bins that hold any.
    levels = 2**grid.bits
    label = (codes - (grid.low - zero)).astype(np.int64) + levels * np.arange(rows)[:, None]
    filled = whole > 0
    totals = np.bincount(label.reshape(-1), kept.reshape(-1), rows * levels)
    shares = np.bincount(label.reshape(-1), filled.reshape(-1), rows * levels)
    q = np.where(filled, totals[label] / np.maximum(shares[label], 1), 0.0)
    p = whole / np.maximum(whole.sum(axis=1, keepdims=True), 1.0)
    q = q / np.maximum(q.sum(axis=1, keepdims=True), 1.0)
    known = p > 0
    ratio = np.log(
        np.where(known, p, 1.0) / np.maximum(np.where(known, q, 1.0), np.finfo(float).tiny)
    )
    return np.where(inside.any(axis=1), (p * ratio).sum(axis=1), np.inf)

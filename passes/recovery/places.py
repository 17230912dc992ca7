"""Which positions of large feature maps are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POSITIONS = 64  # per sample at least, where there are so many
ROWS = 2**15  # over all samples at least


@dataclass(frozen=True, slots=True)
class Sampling:
    """positions: looked at per sample, at most. seed: of the draw."""

    positions: int
    seed: int

    @classmethod
    def of(cls, positions: int, samples: int, seed: int) -> Sampling:
        """So many positions per sample, more where the samples are few: ROWS rows in all."""
        return cls(max(positions, -(-ROWS // max(samples, 1))), seed)


def drawn(number: int, most: int, seed: Sequence[int]) -> NDArray[np.int64]:
    """All of `number` places, or `most` of them, drawn without replacement; ascending."""
    if number <= most:
        return np.arange(number, dtype=np.int64)
    rng = np.random.default_rng(list(seed))
    return np.sort(rng.choice(number, most, replace=False)).astype(np.int64)

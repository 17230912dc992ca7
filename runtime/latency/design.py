"""Which slim models are measured: few, that together cover what plans can reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunec.compiler.problem import IntArray

Counts = tuple[int, ...]


def design(levels: Sequence[IntArray], size: int, seed: int = 0) -> list[Counts]:
    """The smallest and the dense model, then a Latin hypercube: each hyperedge has each part of
    its levels equally often, and any two hyperedges meet at independent ones.
    """
    rng = np.random.default_rng(seed)
    drawn = max(size - 2, 0)
    columns = []
    for own in levels:
        place = (rng.permutation(drawn) + rng.random(drawn)) / max(drawn, 1)
        columns.append(own[(place * len(own)).astype(np.int64)])
    ends = [tuple(int(own[k]) for own in levels) for k in (-1, 0)]
    rest = [tuple(int(column[k]) for column in columns) for k in range(drawn)]
    return [*ends, *rest][:size]


def random_counts(levels: Sequence[IntArray], size: int, seed: int) -> list[Counts]:
    """Kept counts that are uniform over the levels of each hyperedge."""
    rng = np.random.default_rng(seed)
    return [tuple(int(rng.choice(own)) for own in levels) for _ in range(size)]

"""Allowed kept counts of hyperedges, and what the best choice of each count is worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunec.compiler.hypergraph import Hyperedge, Hypergraph
from prunec.compiler.problem import FloatArray, IntArray

Subset = tuple[int, ...]


def edge_levels(edge: Hyperedge, align: int | None, min_keep: int, protected: bool) -> IntArray:
    """Allowed kept counts: multiples of the alignment from the minimum, and the dense size."""
    if protected or min_keep >= edge.size:
        return np.array([edge.size], np.int64)
    step = min(8, max(1, edge.size // 8)) if align is None else align
    multiples = np.arange(step, edge.size, step, dtype=np.int64)
    return np.append(multiples[multiples >= min_keep], edge.size)


def kept_share(scores: FloatArray) -> FloatArray:
    """(size + 1,) share of the total that the k best scores hold, from 0 to 1."""
    total = scores.sum()
    if not total > 0:
        return np.linspace(0.0, 1.0, len(scores) + 1)
    return np.concatenate([[0.0], np.minimum(np.cumsum(scores) / total, 1.0)])


def best_subsets(scores: FloatArray, subsets: Sequence[Subset]) -> dict[int, Subset]:
    """Size -> the set of positions with the largest sum of scores; of equal ones the first."""
    best: dict[int, Subset] = {}
    sums: dict[int, float] = {}
    for subset in subsets:
        total = float(scores[list(subset)].sum())
        if len(subset) not in best or total > sums[len(subset)]:
            best[len(subset)], sums[len(subset)] = subset, total
    return best


def subset_share(scores: FloatArray, subsets: Sequence[Subset]) -> FloatArray:
    """(size + 1,) share of the total that the best allowed set of at most k positions holds.

    Not concave in general: the middle row of three may hold less than half of two neighbours.
    """
    total = scores.sum()
    if not total > 0:
        return np.linspace(0.0, 1.0, len(scores) + 1)
    share = np.zeros(len(scores) + 1)
    for size, subset in best_subsets(scores, subsets).items():
        share[size] = min(float(scores[list(subset)].sum() / total), 1.0)
    share[-1] = 1.0
    return np.asarray(np.maximum.accumulate(share))


def subset_levels(subsets: Sequence[Subset], size: int, min_keep: int, protected: bool) -> IntArray:
    """Sizes of the allowed sets from the minimum, and the dense size."""
    sizes = {len(s) for s in subsets if len(s) >= min_keep and not protected}
    return np.array(sorted(sizes | {size}), np.int64)


def closable(
    graph: Hypergraph, min_keep: Sequence[int], protected: Sequence[bool]
) -> tuple[tuple[int, ...], ...]:
    """The branches all of whose hyperedges may go to 0 by their settings."""
    return tuple(
        branch
        for branch in graph.branches
        if all(min_keep[e] == 0 and not protected[e] for e in branch)
    )

"""Tables of costs over what a solver chooses: levels of hyperedges and reachable sizes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from prunec.compiler.cost import Linear, Table
from prunec.compiler.problem import FloatArray, IntArray

Scope = tuple[int, ...]


def free_of(factor: Linear, levels: Sequence[IntArray]) -> Scope:
    """The hyperedges of a factor that have a choice, ascending."""
    return tuple(e for e, _ in factor.terms if len(levels[e]) > 1)


def scope_of(table: Table, levels: Sequence[IntArray]) -> Scope:
    """The hyperedges with a choice that a table depends on, ascending."""
    return tuple(sorted({e for factor in table.factors for e in free_of(factor, levels)}))


def fixed_part(factor: Linear, levels: Sequence[IntArray]) -> int:
    """What a factor is without the hyperedges that have a choice."""
    return factor.constant + sum(
        m * int(levels[e][0]) for e, m in factor.terms if len(levels[e]) == 1
    )


def over_levels(table: Table, scope: Scope, levels: Sequence[IntArray]) -> FloatArray:
    """Values of a table for all combinations of levels of `scope`, one axis per hyperedge."""
    sizes = []
    for factor in table.factors:
        size = np.full([1] * len(scope), fixed_part(factor, levels), np.int64)
        for e, m in factor.terms:
            if len(levels[e]) > 1:
                shape = [1] * len(scope)
                shape[scope.index(e)] = -1
                size = size + m * levels[e].reshape(shape)
        sizes.append(size)
    values = over_sizes(table, sizes)
    return np.broadcast_to(values, [len(levels[e]) for e in scope])


def over_sizes(table: Table, sizes: Sequence[IntArray]) -> FloatArray:
    """Values where factor d has ``sizes[d]``; the arrays broadcast together."""
    unique, index = [], []
    for size in sizes:
        values, back = np.unique(size, return_inverse=True)
        unique.append(values)
        index.append(back.reshape(size.shape))
    return np.asarray(table.at(unique)[tuple(index)])


def pointwise(table: Table, sizes: Sequence[int | IntArray]) -> FloatArray:
    """Values at single points, ``sizes[d]`` of factor d at each; as `over_sizes`, without a grid.

    Takes 2 ** D steps for D factors, however large the table is.
    """
    ends = [
        _ends(points, np.asarray(wanted))
        for points, wanted in zip(table.points, sizes, strict=True)
    ]
    total: FloatArray = np.zeros(())
    for corner in itertools.product((0, 1), repeat=len(ends)):
        at = tuple(ends[d][side][0] for d, side in enumerate(corner))
        weight = np.prod(
            np.broadcast_arrays(*(ends[d][k][1] for d, k in enumerate(corner))), axis=0
        )
        total = total + table.values[at] * weight
    return total


def _ends(
    points: IntArray, wanted: IntArray
) -> tuple[tuple[IntArray, FloatArray], tuple[IntArray, FloatArray]]:
    """Position and weight of the points below and above each size; no weight at size 0."""
    low = np.clip(np.searchsorted(points, wanted, side="right") - 1, 0, len(points) - 1)
    high = np.minimum(low + 1, len(points) - 1)
    share = np.clip((wanted - points[low]) / np.maximum(points[high] - points[low], 1), 0.0, 1.0)
    there = (wanted > 0).astype(np.float64)
    return (low, (1 - share) * there), (high, share * there)


def reachable(factor: Linear, levels: Sequence[IntArray]) -> IntArray:
    """The sizes that a factor can have, ascending."""
    sizes = np.array([factor.constant], np.int64)
    for e, m in factor.terms:
        sizes = np.unique((sizes[:, None] + m * levels[e][None, :]).ravel())
    return sizes

"""The cells of a cost table that a choice can be in, and what distinguishes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from prunec.compiler.cost import Linear, Table
from prunec.compiler.errors import SolverError
from prunec.compiler.problem import FloatArray, IntArray
from prunec.passes.solvers.grids import fixed_part, free_of, over_sizes, reachable

MOST = 1 << 23  # before those that cost the same are one


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """An axis along the levels of one hyperedge; groups: (number of levels,) position on it."""

    edge: int
    groups: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """An axis along the sizes of a sum of several hyperedges: ``lows[k] <= factor <= highs[k]``."""

    factor: Linear
    lows: IntArray
    highs: IntArray


Along = Levels | Runs


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A table with one axis per independent choice; positions that cost the same are one."""

    axes: tuple[Along, ...]
    values: FloatArray


def cells_of(table: Table, levels: Sequence[IntArray]) -> Cells:
    """A table by what its factors can be.

    A factor of one hyperedge lies along its levels, a sum of several along its reachable sizes.
    Sums that share a hyperedge are treated as if they did not: a cell that no choice can be in
    costs nothing, as every choice is in exactly one position of each axis. Raises SolverError where
    there are more than MOST cells.
    """
    edges: list[int] = []
    sums: list[Linear] = []
    for factor in table.factors:
        free = free_of(factor, levels)
        if len(free) == 1 and free[0] not in edges:
            edges.append(free[0])
        elif len(free) > 1 and factor not in sums:
            sums.append(factor)
    lengths = [len(levels[e]) for e in edges] + [len(reachable(f, levels)) for f in sums]
    if prod(lengths) > MOST:
        raise SolverError(f"a table has {prod(lengths)} cells, too many for the MILP")
    sizes_of = [_sizes(factor, levels) for factor in table.factors]
    shapes = [_shape(factor, edges, sums, levels) for factor in table.factors]
    values = over_sizes(
        table, [s.reshape(shape) for s, shape in zip(sizes_of, shapes, strict=True)]
    )
    values = np.broadcast_to(values, lengths)
    axes: list[Along] = []
    for axis, e in enumerate(edges):
        groups, values = _grouped(values, axis)
        axes.append(Levels(e, groups))
    for axis, factor in enumerate(sums, start=len(edges)):
        first, values = _runs(values, axis)
        sizes = reachable(factor, levels)
        axes.append(Runs(factor, sizes[first], sizes[np.append(first[1:], len(sizes)) - 1]))
    told = [axis for axis, size in enumerate(values.shape) if size > 1]
    return Cells(tuple(axes[a] for a in told), values.reshape([values.shape[a] for a in told]))


def _sizes(factor: Linear, levels: Sequence[IntArray]) -> IntArray:
    """What a factor can be."""
    free = free_of(factor, levels)
    if not free:
        return np.array([fixed_part(factor, levels)], np.int64)
    if len(free) == 1:
        return np.array(fixed_part(factor, levels) + dict(factor.terms)[free[0]] * levels[free[0]])
    return reachable(factor, levels)


def _shape(
    factor: Linear, edges: Sequence[int], sums: Sequence[Linear], levels: Sequence[IntArray]
) -> list[int]:
    """All ones, but -1 on the axis that a factor lies along."""
    shape, free = [1] * (len(edges) + len(sums)), free_of(factor, levels)
    if free:
        axis = edges.index(free[0]) if len(free) == 1 else len(edges) + sums.index(factor)
        shape[axis] = -1
    return shape


def _grouped(values: FloatArray, axis: int) -> tuple[IntArray, FloatArray]:
    """Equal slices along an axis as one; which one each is."""
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    _, first, groups = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return groups.reshape(-1), np.take(values, first, axis)


def _runs(values: FloatArray, axis: int) -> tuple[IntArray, FloatArray]:
    """Equal slices along an axis as one where they are neighbours; where each run begins."""
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    first = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(axis=1)))
    return first, np.take(values, first, axis)

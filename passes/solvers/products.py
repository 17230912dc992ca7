"""The limited rows as arrays: products of sizes, and tables that are looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from prunec.compiler.cost import Linear, Table
from prunec.compiler.problem import FloatArray, IntArray, Problem
from prunec.passes.solvers.grids import pointwise, reachable

CELLS = 1 << 22  # most cells of all tables together; the others are interpolated anew each time
MARGIN = 1e-12  # relative, above limits with tables: sums of floats are not exact


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A table of one row, ready to be looked up.

    slopes: hyperedge -> (factor, multiplicity) pairs. cells: its values over the sizes that its
    factors can reach, or None where these are too many; index[d]: size - lowest[d] -> position.
    """

    row: int
    factors: tuple[Linear, ...]
    slopes: Mapping[int, tuple[tuple[int, int], ...]]
    table: Table
    cells: FloatArray | None
    lowest: tuple[int, ...]
    index: tuple[IntArray, ...]

    @classmethod
    def of(cls, row: int, table: Table, levels: Sequence[IntArray], room: int) -> Grid:
        """Prepare one table, with cells if these are no more than `room`."""
        slopes: dict[int, list[tuple[int, int]]] = {}
        for d, factor in enumerate(table.factors):
            for e, m in factor.terms:
                slopes.setdefault(e, []).append((d, m))
        sizes = [reachable(factor, levels) for factor in table.factors]
        cells = table.at(sizes) if prod(len(s) for s in sizes) <= room else None
        index = []
        for size in sizes:
            position = np.zeros(int(size[-1] - size[0]) + 1, np.int64)
            position[size - size[0]] = np.arange(len(size))
            index.append(position)
        return cls(
            row, table.factors, {e: tuple(s) for e, s in slopes.items()}, table, cells,
            tuple(int(size[0]) for size in sizes), tuple(index),
        )  # fmt: skip

    def value(self, sizes: Sequence[int]) -> float:
        """Value at these sizes of the factors."""
        if self.cells is None:
            return float(pointwise(self.table, sizes))
        at = (i[s - low] for i, s, low in zip(self.index, sizes, self.lowest, strict=True))
        return float(self.cells[tuple(at)])

    def values(self, sizes: Sequence[int | IntArray]) -> FloatArray:
        """Values at these sizes of the factors; arrays have the same length."""
        if self.cells is None:
            return pointwise(self.table, sizes)
        at = (i[s - low] for i, s, low in zip(self.index, sizes, self.lowest, strict=True))
        return np.asarray(self.cells[tuple(at)])


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """``row = weights @ prod_d (bases[d] + slopes[d] @ n) + tables``.

    bases: (D, T) with D the highest degree and T distinct products; one of lower degree has factors
    1. weights: (R, T). at_most: (R,). slopes, a (D, T, E) array over E hyperedges that is nearly
    empty, is held as its N columns that are not zero, sorted by hyperedge: terms (N,), slopes
    (D, N), and first (E + 1,) where those of each hyperedge begin. grids: the tables, grid_rows:
    (number of grids,) their rows; grids_of: those of each hyperedge. sets: hyperedges that are 0
    together, merged where they overlap. near: per hyperedge, the hyperedges whose moves have other
    costs once it has moved, None where these are most of all. rough: see `Search`.
    """

    bases: FloatArray
    terms: IntArray
    slopes: FloatArray
    first: IntArray
    weights: FloatArray
    at_most: FloatArray
    grids: tuple[Grid, ...]
    grid_rows: IntArray
    grids_of: tuple[tuple[int, ...], ...]
    sets: tuple[tuple[int, ...], ...]
    near: tuple[IntArray | None, ...]
    rough: tuple[int, ...]

    @classmethod
    def of(cls, problem: Problem) -> Products:
        """Flatten the rows of the limited resources."""
        rows = problem.rows
        products = list(dict.fromkeys(t.factors for row, _ in rows for t in row.terms))
        at = {factors: t for t, factors in enumerate(products)}
        degree = max([1, *(len(factors) for factors in products)])
        bases = np.ones((degree, len(products)))
        weights = np.zeros((len(rows), len(products)))
        for r, (row, _) in enumerate(rows):
            for term in row.terms:
                weights[r, at[term.factors]] += term.scale
        entries: dict[tuple[int, int], list[float]] = {}  # (hyperedge, product) -> slopes
        for t, factors in enumerate(products):
            for d, factor in enumerate(factors):
                bases[d, t] = factor.constant
                for e, m in factor.terms:
                    entries.setdefault((e, t), [0.0] * degree)[d] = m
        edges = len(problem.levels)
        keys = sorted(entries)
        owners = np.array([e for e, _ in keys], np.int64)
        terms = np.array([t for _, t in keys], np.int64)
        slopes = np.array([entries[key] for key in keys], np.float64).reshape(len(keys), degree).T
        grids = tuple(_grids(problem))
        grids_of = [[g for g, grid in enumerate(grids) if e in grid.slopes] for e in range(edges)]
        sets = tuple(_merged(problem.together))
        together = _together(owners, terms, grids, sets)
        measured = {r for r, (row, _) in enumerate(rows) if row.tables}
        return cls(
            bases=bases,
            terms=terms,
            slopes=np.ascontiguousarray(slopes),
            first=np.searchsorted(owners, np.arange(edges + 1)),
            weights=weights,
            at_most=np.array([x * (1 + MARGIN * (r in measured)) for r, (_, x) in enumerate(rows)]),
            grids=grids,
            grid_rows=np.array([grid.row for grid in grids], np.int64),
            grids_of=tuple(map(tuple, grids_of)),
            sets=sets,
            near=tuple(_near(edges, together)),
            rough=tuple(e for e in range(edges) if _is_rough(problem, e, grids_of, sets)),
        )

    def own(self, edge: int) -> slice:
        """The columns of one hyperedge."""
        return slice(int(self.first[edge]), int(self.first[edge + 1]))

    def columns_of(self, edges: IntArray) -> IntArray:
        """The columns of several hyperedges, one after the other."""
        if len(edges) + 1 == len(self.first):
            return np.arange(len(self.terms))
        return np.concatenate([np.arange(self.first[e], self.first[e + 1]) for e in edges])


def _grids(problem: Problem) -> Iterator[Grid]:
    room = CELLS
    for r, (row, _) in enumerate(problem.rows):
        for table in row.tables:
            grid = Grid.of(r, table, problem.levels, room)
            room -= 0 if grid.cells is None else grid.cells.size
            yield grid


def _merged(together: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    out: list[set[int]] = []
    for members in together:
        joined = set(members).union(*(own for own in out if own & set(members)))
        out = [own for own in out if not own & joined] + [joined]
    return [tuple(sorted(own)) for own in out if len(own) > 0]


def _together(
    owners: IntArray, terms: IntArray, grids: Sequence[Grid], sets: Sequence[tuple[int, ...]]
) -> list[list[int]]:
    """Hyperedges that share a product, a table or a set."""
    members: dict[int, list[int]] = {}
    for e, t in zip(owners.tolist(), terms.tolist(), strict=True):
        members.setdefault(t, []).append(e)
    return [*members.values(), *(sorted(grid.slopes) for grid in grids), *map(list, sets)]


def _near(edges: int, together: Sequence[Sequence[int]]) -> Iterator[IntArray | None]:
    touched: list[list[Sequence[int]]] = [[] for _ in range(edges)]
    for members in together:
        for e in members:
            touched[e].append(members)
    for e in range(edges):
        if sum(map(len, touched[e])) > edges:
            yield None
        else:
            yield np.unique(np.array([e, *(k for own in touched[e] for k in own)], np.int64))


def _is_rough(
    problem: Problem,
    e: int,
    grids_of: Sequence[Sequence[int]],
    sets: Sequence[tuple[int, ...]],
) -> bool:
    level, value = problem.levels[e], problem.values[e][problem.levels[e]]
    if len(level) < 2:
        return False
    slope = np.diff(value) / np.diff(level)
    bent = bool((np.diff(slope) > 1e-9 * max(1e-300, float(np.abs(slope).max()))).any())
    return bool(grids_of[e]) or bent or any(e in members for members in sets)

"""The largest value minus priced costs over all choices, by variable elimination.

Costs expand into products of few kept counts and tables over few hyperedges, so the maximum is a
dynamic program over the graph "which hyperedges share a product" (bucket elimination; Dechter,
Artificial Intelligence 113, 1999). It is cheap for chains of blocks (residual networks) and out of
reach where everything meets everything (dense blocks): then there is no program.

Where its tables are too large, levels are thinned to every second, fourth, ... in one of two ways
that never lower the maximum. A hyperedge in which all costs are affine keeps some levels, with
values raised until the line through them lies above all levels: the maximum of an affine function
is at a level that was kept. Any other hyperedge is cut into segments, each with the value of its
highest level, the products of its lowest, and the smallest cell of every table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from prunec.compiler.problem import FloatArray, IntArray, Problem
from prunec.passes.solvers.grids import Scope, over_levels, scope_of
from prunec.passes.solvers.rows import Monomials, monomials

CELLS = 1 << 24  # largest sum of table sizes that is tried
STRIDES = 16  # coarsest choice of levels that is tried
FEW_LEVELS = 16  # hyperedges with no more levels keep all of them

Factor = tuple[Scope, FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """What is left of the levels of one hyperedge.

    first: position of each node among the levels; counts: its kept count; values: its value.
    """

    first: IntArray
    counts: IntArray
    values: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """``coefficients[r] * base`` is part of row r; base: one axis of nodes per hyperedge."""

    scope: Scope
    coefficients: FloatArray
    base: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Parts of the rows, each row as ``(row(n) - at_most) / unit``, and an elimination order.

    constants: (R,) what does not depend on the choice. torn: 0 or -inf, for sets that are 0
    together. order: hyperedges with their neighbours at the time of elimination.
    """

    nodes: tuple[Nodes, ...]
    constants: FloatArray
    parts: tuple[Part, ...]
    torn: tuple[Factor, ...]
    order: tuple[tuple[int, Scope], ...]

    def maximise(
        self, multipliers: FloatArray, worth: float = 1.0
    ) -> tuple[float, FloatArray, tuple[int, ...]]:
        """The maximum of ``worth * value - multipliers @ rows``, the rows there, and the counts."""
        tables: list[Factor] = [((e,), worth * n.values) for e, n in enumerate(self.nodes)]
        tables += [(p.scope, -float(multipliers @ p.coefficients) * p.base) for p in self.parts]
        tables += self.torn
        total = -float(multipliers @ self.constants)
        choices: list[tuple[int, Scope, IntArray]] = []
        for e, neighbours in self.order:
            scope = (*neighbours, e)
            joint = np.zeros([len(self.nodes[i].counts) for i in scope])
            for inner, table in tables:
                if e in inner:
                    joint += _spread(inner, table, scope)
            tables = [t for t in tables if e not in t[0]]
            best = joint.argmax(axis=-1)
            choices.append((e, neighbours, best))
            left = np.take_along_axis(joint, best[..., None], axis=-1)[..., 0]
            if neighbours:
                tables.append((neighbours, left))
            else:
                total += float(left)
        at = [0] * len(self.nodes)
        for e, neighbours, best in reversed(choices):
            at[e] = int(best[tuple(at[i] for i in neighbours)])
        rows = self.constants.copy()
        for part in self.parts:
            rows += part.coefficients * part.base[tuple(at[e] for e in part.scope)]
        return total, rows, tuple(int(n.counts[k]) for n, k in zip(self.nodes, at, strict=True))


def program_of(problem: Problem) -> Program | None:
    """The dynamic program over all levels, or over as many as its tables can hold."""
    rows = problem.rows
    expanded = [monomials(row, problem.levels) for row, _ in rows]
    exact = [row for row in expanded if row is not None]
    if not rows or len(exact) < len(rows):
        return None
    scopes = _scopes(problem, exact)
    order, cells = _eliminate([len(level) for level in problem.levels], scopes)
    stride, nodes = 1, [_all_nodes(problem, e) for e in range(len(problem.levels))]
    cut = _not_affine(problem, exact)
    while cells > CELLS:
        stride *= 2
        if stride > STRIDES:
            return None
        nodes = [_thinned(problem, e, stride, e in cut) for e in range(len(problem.levels))]
        order, cells = _eliminate([len(n.counts) for n in nodes], scopes)
    parts = list(_parts(problem, nodes, exact))
    constants = np.array(
        [row.get((), 0.0) - at_most for row, (_, at_most) in zip(exact, rows, strict=True)]
    )
    for r, (row, _) in enumerate(rows):
        for table in row.tables:
            scope = scope_of(table, problem.levels)
            if prod(len(problem.levels[e]) for e in scope) > CELLS:
                return None
            base = over_levels(table, scope, problem.levels)
            for axis, e in enumerate(scope):
                base = np.minimum.reduceat(base, nodes[e].first, axis=axis)
            if scope:
                parts.append(Part(scope, np.eye(len(rows))[r], base))
            else:
                constants[r] += float(base)
    units = np.array([float(max(1, at_most)) for _, at_most in rows])
    parts = [Part(p.scope, p.coefficients / units, p.base) for p in parts]
    return Program(
        tuple(nodes), constants / units, tuple(parts), tuple(_torn(problem, nodes)), order
    )


def _scopes(problem: Problem, expanded: Sequence[Monomials]) -> list[Scope]:
    products = {tuple(sorted(set(powers))) for row in expanded for powers in row}
    tables = {scope_of(t, problem.levels) for row, _ in problem.rows for t in row.tables}
    pairs = {tuple(sorted(pair)) for pair in _pairs(problem)}
    return sorted(products | tables | pairs)


def _pairs(problem: Problem) -> Iterator[tuple[int, int]]:
    for members in problem.together:
        yield from pairwise(members)


def _torn(problem: Problem, nodes: Sequence[Nodes]) -> Iterator[Factor]:
    for a, b in (sorted(pair) for pair in _pairs(problem)):
        same = (nodes[a].counts > 0)[:, None] == (nodes[b].counts > 0)[None, :]
        yield (a, b), np.where(same, 0.0, -np.inf)


def _not_affine(problem: Problem, expanded: Sequence[Monomials]) -> frozenset[int]:
    """The hyperedges in which some row is not affine: tables, and powers above 1."""
    tables = {e for row, _ in problem.rows for t in row.tables for e in scope_of(t, problem.levels)}
    powers = {e for row in expanded for key in row for e in key if key.count(e) > 1}
    return frozenset(tables | powers)


def _all_nodes(problem: Problem, e: int) -> Nodes:
    level = problem.levels[e]
    return Nodes(np.arange(len(level)), level, problem.values[e][level])


def _thinned(problem: Problem, e: int, stride: int, cut: bool) -> Nodes:
    level = problem.levels[e]
    size = len(level)
    if size <= FEW_LEVELS:
        return _all_nodes(problem, e)
    # Level 0 stays apart: what is 0 together is decided by it.
    first = np.unique(np.concatenate([[0], np.arange(int(level[0] == 0), size, stride)]))
    if cut:
        last = np.append(first[1:], size) - 1
        return Nodes(first, level[first], problem.values[e][level[last]])
    at = np.unique(np.append(first, size - 1))
    return Nodes(at, level[at], _raised(problem.values[e][level], level, at))


def _raised(values: FloatArray, level: IntArray, at: IntArray) -> FloatArray:
    """Values at some levels whose interpolation is above the values at all levels."""
    above = values - np.interp(level, level[at], values[at])
    segment = np.searchsorted(at, np.arange(len(level)), side="right") - 1
    lift = np.zeros(len(at))
    np.maximum.at(lift, segment, above)
    return np.asarray(values[at] + np.maximum(lift, np.append(0.0, lift[:-1])))


def _parts(
    problem: Problem, nodes: Sequence[Nodes], expanded: Sequence[Monomials]
) -> Iterator[Part]:
    """The products, each once, with its coefficient in every row."""
    for powers in sorted({key for row in expanded for key in row if key}):
        scope = tuple(sorted(set(powers)))
        base: FloatArray = np.ones(())
        for e in scope:
            base = base[..., None] * nodes[e].counts.astype(np.float64) ** powers.count(e)
        yield Part(scope, np.array([row.get(powers, 0.0) for row in expanded]), base)


def _eliminate(
    sizes: Sequence[int], scopes: Sequence[Scope]
) -> tuple[tuple[tuple[int, Scope], ...], int]:
    """Elimination order by the smallest table next, and the sum of the table sizes."""
    near: dict[int, set[int]] = {e: set() for e in range(len(sizes))}
    for scope in scopes:
        for e in scope:
            near[e] |= set(scope) - {e}
    order, cells = [], 0

    def table(e: int) -> tuple[int, int]:
        return sizes[e] * prod(sizes[i] for i in near[e]), e

    while near:
        cost, e = min(table(e) for e in near)
        cells += cost
        neighbours = near.pop(e)
        for i in neighbours:
            near[i] = (near[i] | neighbours) - {i, e}
        order.append((e, tuple(sorted(neighbours))))
    return tuple(order), cells


def _spread(inner: Scope, table: FloatArray, scope: Scope) -> FloatArray:
    """A table over `inner` with its axes where they are in `scope`, unit axes elsewhere."""
    axes = [scope.index(e) for e in inner]
    shape = [1] * len(scope)
    for axis, size in zip(axes, table.shape, strict=True):
        shape[axis] = size
    return table.transpose(np.argsort(axes)).reshape(shape)

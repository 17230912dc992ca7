"""Search state over kept counts: costs of every single move at once, exact below 2**53."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prunec.compiler.problem import FloatArray, IntArray, Problem


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """The limited costs as arrays: ``used = weights @ prod_d (bases[d] + slopes[d] @ n)``.

    bases: (D, T) with D the highest degree and T terms; a term of lower degree has factors 1.
    weights: (R, T), one row per limit. at_most: (R,). slopes, a (D, T, E) array over E hyperedges
    that is nearly empty, is held as its N columns that are not zero, sorted by hyperedge: terms
    (N,), slopes (D, N), and first (E + 1,) where those of each hyperedge begin. near: per
    hyperedge, the hyperedges that share a term with it, None where these are most of all.
    """

    bases: FloatArray
    terms: IntArray
    slopes: FloatArray
    first: IntArray
    near: tuple[IntArray | None, ...]
    weights: FloatArray
    at_most: FloatArray

    @classmethod
    def of(cls, problem: Problem) -> Products:
        """Flatten the polynomials of the limited resources."""
        rows = [
            (r, t) for r, x in enumerate(problem.limits) for t in problem.costs[x.resource].terms
        ]
        degree = max([1, *(len(term.factors) for _, term in rows)])
        bases = np.ones((degree, len(rows)))
        weights = np.zeros((len(problem.limits), len(rows)))
        entries: dict[tuple[int, int], list[float]] = {}  # (hyperedge, term) -> slopes
        for t, (r, term) in enumerate(rows):
            weights[r, t] = term.scale
            for d, factor in enumerate(term.factors):
                bases[d, t] = factor.constant
                for e, m in factor.terms:
                    entries.setdefault((e, t), [0.0] * degree)[d] = m
        edges = len(problem.levels)
        keys = sorted(entries)
        owners = np.array([e for e, _ in keys], np.int64)
        terms = np.array([t for _, t in keys], np.int64)
        slopes = np.array([entries[key] for key in keys], np.float64).reshape(len(keys), degree).T
        first = np.searchsorted(owners, np.arange(edges + 1))
        at_most = np.array([float(x.at_most) for x in problem.limits])
        near = tuple(_near(owners, terms, first, len(rows)))
        return cls(bases, terms, np.ascontiguousarray(slopes), first, near, weights, at_most)

    def own(self, edge: int) -> slice:
        """The columns of one hyperedge."""
        return slice(int(self.first[edge]), int(self.first[edge + 1]))


def _near(
    owners: IntArray, terms: IntArray, first: IntArray, count: int
) -> Iterator[IntArray | None]:
    members: list[list[int]] = [[] for _ in range(count)]
    for e, t in zip(owners.tolist(), terms.tolist(), strict=True):
        members[t].append(e)
    edges = len(first) - 1
    for e in range(edges):
        touched = terms[first[e] : first[e + 1]].tolist()
        if sum(len(members[t]) for t in touched) > edges:
            yield None
        else:
            yield np.unique(np.array([e, *(k for t in touched for k in members[t])], np.int64))


class Search:
    """A choice of one level per hyperedge, its costs and the moves from it; edited in place."""

    def __init__(self, problem: Problem, products: Products, start: tuple[int, ...]) -> None:
        self._products = products
        self._levels = [level.tolist() for level in problem.levels]
        self._values = [
            value[level].tolist()
            for value, level in zip(problem.values, problem.levels, strict=True)
        ]
        self.at_most = products.at_most
        edges = len(self._levels)
        self.at: list[int] = [level.index(n) for level, n in zip(self._levels, start, strict=True)]
        counts = np.repeat(np.array(start, np.float64), np.diff(products.first))
        self._factors = products.bases + np.array(
            [
                np.bincount(products.terms, row * counts, len(row_of))
                for row, row_of in zip(products.slopes, products.bases, strict=True)
            ]
        )
        self._used: FloatArray = products.weights @ self._factors.prod(axis=0)
        # Row 0: one level down, row 1: one level up; a missing step has change 0 and value nan.
        self._steps = np.zeros((2, edges))
        self._worths = np.full((2, edges), np.nan)
        self._changes = np.zeros((2, len(self.at_most), edges))
        for e in range(edges):
            self._refresh_steps(e)
        self._refresh_changes(None)

    def counts(self) -> tuple[int, ...]:
        """Kept count per hyperedge."""
        return tuple(level[k] for level, k in zip(self._levels, self.at, strict=True))

    def value(self) -> float:
        """Objective of the present choice."""
        return float(sum(v[k] for v, k in zip(self._values, self.at, strict=True)))

    def slack(self) -> FloatArray:
        """What is left of each limit, (R,); negative where it is exceeded."""
        return self.at_most - self._used

    def moves(self, up: int) -> tuple[FloatArray, FloatArray]:
        """Change of cost (R, E) and of value (E,), both >= 0, of one step down (0) or up (1)."""
        change = self._changes[up]
        return (change if up else -change), self._worths[up]

    def move(self, edge: int, position: int) -> None:
        """Put a hyperedge on the level at this position."""
        level, own = self._levels[edge], self._products.own(edge)
        step = level[position] - level[self.at[edge]]
        self.at[edge] = position
        terms = self._products.terms[own]
        before = self._factors[:, terms].prod(axis=0)
        self._factors[:, terms] += self._products.slopes[:, own] * step
        # Whole numbers below 2**53: sums do not drift.
        self._used = self._used + self._products.weights[:, terms] @ (
            self._factors[:, terms].prod(axis=0) - before
        )
        self._refresh_steps(edge)
        self._refresh_changes(self._products.near[edge])

    def reachable(self, edge: int, jump: int) -> bool:
        """Whether a hyperedge has a level `jump` positions away."""
        return 0 <= self.at[edge] + jump < len(self._levels[edge])

    def restore(self, positions: list[int]) -> None:
        """Go back to earlier positions."""
        for e, position in enumerate(positions):
            if self.at[e] != position:
                self.move(e, position)

    def _refresh_steps(self, e: int) -> None:
        level, value, k = self._levels[e], self._values[e], self.at[e]
        down, up = k > 0, k + 1 < len(level)
        self._steps[0, e] = level[k - 1] - level[k] if down else 0
        self._worths[0, e] = value[k] - value[k - 1] if down else np.nan
        self._steps[1, e] = level[k + 1] - level[k] if up else 0
        self._worths[1, e] = value[k + 1] - value[k] if up else np.nan

    def _refresh_changes(self, edges: IntArray | None) -> None:
        """What a step of each of these hyperedges, or of all, costs now."""
        p = self._products
        if edges is None:
            edges = np.arange(len(self.at))
            columns = np.arange(len(p.terms))
            sizes = np.diff(p.first)
        else:
            columns = np.concatenate([np.arange(p.first[e], p.first[e + 1]) for e in edges])
            sizes = p.first[edges + 1] - p.first[edges]
        starts = np.cumsum(sizes) - sizes
        terms, slopes = p.terms[columns], p.slopes[:, columns]
        now = self._factors[:, terms]
        whole = now.prod(axis=0)
        for up in (0, 1):
            step = np.repeat(self._steps[up, edges], sizes)
            moved = p.weights[:, terms] * ((now + slopes * step).prod(axis=0) - whole)
            filled = np.flatnonzero(sizes)
            self._changes[up][:, edges] = 0.0
            if len(filled):
                sums = np.add.reduceat(moved, starts[filled], axis=1)
                self._changes[up][:, edges[filled]] = sums

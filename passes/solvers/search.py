"""Search state over kept counts: costs of every single move at once, exact below 2**53."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.compiler.problem import FloatArray, Problem


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """The limited costs as arrays: ``used = weights @ prod_d (bases[d] + slopes[d] @ n)``.

    bases: (D, T), slopes: (D, T, E) with D the highest degree, T terms, E hyperedges; a term of
    lower degree has factors 1. weights: (R, T), one row per limit. at_most: (R,).
    """

    bases: FloatArray
    slopes: FloatArray
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
        slopes = np.zeros((degree, len(rows), len(problem.levels)))
        weights = np.zeros((len(problem.limits), len(rows)))
        for t, (r, term) in enumerate(rows):
            weights[r, t] = term.scale
            for d, factor in enumerate(term.factors):
                bases[d, t] = factor.constant
                for e, m in factor.terms:
                    slopes[d, t, e] = m
        at_most = np.array([float(x.at_most) for x in problem.limits])
        return cls(bases, slopes, weights, at_most)


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
        self._factors = products.bases + products.slopes @ np.array(start, dtype=np.float64)
        # Row 0: one level down, row 1: one level up; a missing step has change 0 and value nan.
        self._steps = np.zeros((2, edges))
        self._worths = np.full((2, edges), np.nan)
        for e in range(edges):
            self._refresh(e)

    def counts(self) -> tuple[int, ...]:
        """Kept count per hyperedge."""
        return tuple(level[k] for level, k in zip(self._levels, self.at, strict=True))

    def value(self) -> float:
        """Objective of the present choice."""
        return float(sum(v[k] for v, k in zip(self._values, self.at, strict=True)))

    def slack(self) -> FloatArray:
        """What is left of each limit, (R,); negative where it is exceeded."""
        used: FloatArray = self._products.weights @ self._factors.prod(axis=0)
        return self.at_most - used

    def moves(self, up: int) -> tuple[FloatArray, FloatArray]:
        """Change of cost (R, E) and of value (E,), both >= 0, of one step down (0) or up (1)."""
        step = self._steps[up]
        factors = self._factors
        moved = factors[0][:, None] + self._products.slopes[0] * step
        for d in range(1, len(factors)):
            moved *= factors[d][:, None] + self._products.slopes[d] * step
        moved -= factors.prod(axis=0)[:, None]
        change = self._products.weights @ moved
        return (change if up else -change), self._worths[up]

    def move(self, edge: int, position: int) -> None:
        """Put a hyperedge on the level at this position."""
        level = self._levels[edge]
        step = level[position] - level[self.at[edge]]
        self.at[edge] = position
        self._factors += self._products.slopes[:, :, edge] * step
        self._refresh(edge)

    def reachable(self, edge: int, jump: int) -> bool:
        """Whether a hyperedge has a level `jump` positions away."""
        return 0 <= self.at[edge] + jump < len(self._levels[edge])

    def restore(self, positions: list[int]) -> None:
        """Go back to earlier positions."""
        for e, position in enumerate(positions):
            if self.at[e] != position:
                self.move(e, position)

    def _refresh(self, e: int) -> None:
        level, value, k = self._levels[e], self._values[e], self.at[e]
        down, up = k > 0, k + 1 < len(level)
        self._steps[0, e] = level[k - 1] - level[k] if down else 0
        self._worths[0, e] = value[k] - value[k - 1] if down else np.nan
        self._steps[1, e] = level[k + 1] - level[k] if up else 0
        self._worths[1, e] = value[k + 1] - value[k] if up else np.nan

"""The pairwise problem over kept counts alone: what is proven of values, costs and joins."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.cost import Table as Measured
from prunec.compiler.cost import Term
from prunec.compiler.pairwise import PairwiseProblem
from prunec.compiler.problem import FloatArray, IntArray
from prunec.passes.pairwise.counted import joined_counts
from prunec.passes.pairwise.elimination import Elimination, Scope
from prunec.passes.pairwise.pairs import most, most_within, top

BINS = 257  # per hyperedge; more levels share a bin, with its highest value and lowest cost
ENTRIES = (1 << 16, 1 << 18)  # of one table; more is tighter, unless it splits tables another way
FORBIDDEN = -1e18
SLACK = 1e-9

Table = NDArray[np.float64]
Box = tuple[tuple[int, int], ...]


class Relaxed:
    """The problem over kept counts alone; one table per hyperedge, block and product of costs."""

    def __init__(self, problem: PairwiseProblem, bins: int = BINS) -> None:
        self.problem = problem
        self._low, self._high = zip(*(_bins(level, bins) for level in problem.levels), strict=True)
        self._worth = self._worths()
        self._costs = self._cost_tables()
        scopes = dict.fromkeys((*self._worth, *(s for s, _ in self._costs)))
        self._joined = joined_counts(problem)
        scopes |= dict.fromkeys(tuple(sorted(set(s))) for s in self._joined)
        self._scopes: list[Scope] = list(scopes)
        self._base = [self._based(scope) for scope in self._scopes]
        self._price = [
            {r: t for (s, r), t in self._costs.items() if s == scope} for scope in self._scopes
        ]
        self.limits = np.array([x for _, x in problem.rows], np.float64)
        sizes = [len(own) for own in self._high]
        self.plans = [Elimination(sizes, self._scopes, most_of) for most_of in ENTRIES]
        if any(plan.exact for plan in self.plans):
            self.plans = [next(plan for plan in self.plans if plan.exact)]

    def _worths(self) -> dict[Scope, Table]:
        """Most value of every hyperedge by itself and of every block, per bin."""
        problem, firsts = self.problem, self.problem.firsts
        out: dict[Scope, Table] = {
            (e,): top(problem.linear[firsts[e] : firsts[e + 1]], high)
            for e, high in enumerate(self._high)
        }
        for block in problem.blocks:
            e, f = block.rows, block.columns
            if e == f:
                own = problem.linear[firsts[e] : firsts[e + 1]]
                out[e,] = most_within(block.values, own, self._high[e])
                continue
            table = most(block.values, self._high[e], self._high[f])
            out[e, f] = out[e, f] + table if (e, f) in out else table
        return out

    def _cost_tables(self) -> dict[tuple[Scope, int], Table]:
        """Least cost per scope and row, as a sum of products of kept counts."""
        out: dict[tuple[Scope, int], Table] = {}
        for r, (row, _) in enumerate(self.problem.rows):
            for term in row.terms:
                for scope, table in self._monomials(term):
                    out[scope, r] = out[scope, r] + table if (scope, r) in out else table
            for measured in row.tables:
                found = self._measured(measured)
                if found is not None:
                    scope, table = found
                    out[scope, r] = out[scope, r] + table if (scope, r) in out else table
        return out

    def _measured(self, table: Measured) -> tuple[Scope, Table] | None:
        """Least value per bin; None (a cost of 0) where a size is of several hyperedges."""
        if any(len(factor.terms) > 1 for factor in table.factors):
            return None
        edges = [factor.terms[0][0] for factor in table.factors if factor.terms]
        if len(set(edges)) < len(edges):
            return None
        sizes = [
            factor.constant + factor.terms[0][1] * self.problem.levels[factor.terms[0][0]]
            if factor.terms
            else np.array([factor.constant])
            for factor in table.factors
        ]
        values = table.at(sizes)
        for d, factor in enumerate(table.factors):
            if factor.terms:
                (e,) = (e for e, _ in factor.terms)
                starts = np.searchsorted(self.problem.levels[e], self._low[e])
                values = np.minimum.reduceat(values, starts, axis=d)
        values = values.reshape([len(self._low[e]) for e in edges])
        order = np.argsort(edges, kind="stable").tolist()
        return tuple(sorted(edges)), np.transpose(values, order)

    def _monomials(self, term: Term) -> list[tuple[Scope, Table]]:
        """A product of sums of counts, multiplied out."""
        choices = [
            [(None, factor.constant), *factor.terms] if factor.constant else list(factor.terms)
            for factor in term.factors
        ]
        found: dict[Scope, Table] = {}
        for picked in product(*choices):
            scale = term.scale
            powers: dict[int, int] = {}
            for e, m in picked:
                scale *= m
                if e is not None:
                    powers[e] = powers.get(e, 0) + 1
            scope = tuple(sorted(powers))
            table = np.full([1] * len(scope), float(scale))
            for d, e in enumerate(scope):
                shape = [1] * len(scope)
                shape[d] = -1
                table = table * (self._low[e].astype(np.float64) ** powers[e]).reshape(shape)
            found[scope] = found[scope] + table if scope in found else table
        return list(found.items())

    def _based(self, scope: Scope) -> Table:
        """Values of a scope with what the joins rule out."""
        shape = [len(self._high[e]) for e in scope]
        table = self._worth.get(scope, np.zeros(shape))
        for key, allowed in self._joined.items():
            if tuple(sorted(set(key))) == scope:
                low, high = (
                    dict(
                        zip(
                            scope,
                            np.meshgrid(*(side[e] for e in scope), indexing="ij"),
                            strict=True,
                        )
                    )
                    for side in (self._low, self._high)
                )
                table = np.where(allowed(low, high), table, FORBIDDEN)
        return np.asarray(table)

    def whole(self) -> Box:
        """All bins of all hyperedges."""
        return tuple((0, len(own) - 1) for own in self._high)

    def at(
        self, prices: FloatArray, plan: Elimination, box: Box
    ) -> tuple[float, FloatArray, tuple[int, ...]]:
        """The bound at these prices (per unit of cost), the unused limits there, and its bins.

        box: first and last bin that every hyperedge may have.
        """
        tables = []
        for scope, base, rows in zip(self._scopes, self._base, self._price, strict=True):
            priced = base
            if len(scope) == 1:
                (first, last), place = box[scope[0]], np.arange(len(base))
                priced = np.where((place >= first) & (place <= last), base, FORBIDDEN)
            for r, cost in rows.items():
                priced = priced - prices[r] * cost
            tables.append(priced[None])
        maxima, values = plan.maximum(tables)
        counts = [int(v[0]) for v in values]
        used = np.zeros(len(self.limits))
        for (scope, r), cost in self._costs.items():
            used[r] += cost[tuple(counts[e] for e in scope)]
        total = self.problem.constant + float(maxima[0]) + float(prices @ self.limits)
        return total * (1 + SLACK), self.limits - used, tuple(counts)


def _bins(level: IntArray, most_bins: int) -> tuple[IntArray, IntArray]:
    """Lowest and highest count of every bin of levels; 0 is a bin of its own."""
    zero = level[:1] == 0
    rest = level[len(level[:1][zero]) :]
    ends = np.unique(np.linspace(0, len(rest), min(most_bins, len(rest)) + 1).round().astype(int))
    low, high = rest[ends[:-1]], rest[ends[1:] - 1]
    if zero.any():
        low, high = np.append([0], low), np.append([0], high)
    return low, high

"""The selection problem as a mixed-integer linear program in PuLP.

A hyperedge with levels ``l_0 < l_1 < ...`` has binaries ``y_k = [n >= l_k]``, k >= 1, the running
sums of a one-hot choice: ``n = l_0 + sum_k (l_k - l_{k-1}) y_k``. A product ``n * F`` then needs
``y_k * F``. With ``f = (F - lo) / (hi - lo)`` in [0, 1] and ``q_k >= f + y_k - 1``, q_k >= 0,

    y_k * F  =  lo y_k + (hi - lo) q_k

which is exact at binary y because costs only grow in q, and as tight as the disaggregation of F
over the one-hot choice (both are the convex envelope of the product over the levels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from prunec.compiler.cost import Linear, Term
from prunec.compiler.problem import Problem

if TYPE_CHECKING:
    import pulp

# Back-end tolerances are absolute (near 1e-7), and CBC prints its bound with three decimals.
LIMIT_SCALE = 1e3  # every limit reads "<= 1000"
OBJECTIVE_SCALE = 1e4  # the objective of the highest levels is 10000
INTEGRALITY = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Formulation:
    """A PuLP problem (minimisation of the negated, scaled objective) and its binaries.

    steps[e][k - 1] is ``[n_e >= levels[e][k]]``.
    """

    problem: Problem
    program: pulp.LpProblem
    steps: tuple[tuple[pulp.LpVariable, ...], ...]
    scale: float
    constant: float

    def objective(self, minimised: float) -> float:
        """Objective (or bound) of the selection problem for one of the PuLP problem."""
        return self.constant - self.scale * minimised

    def counts(self, values: Mapping[str, float]) -> tuple[int, ...] | None:
        """The choice that the binaries state; None if they are not integral, or missing."""
        nan = float("nan")
        found = [[values.get(y.name, nan) for y in steps] for steps in self.steps]
        if not all(min(abs(x), abs(x - 1)) <= INTEGRALITY for steps in found for x in steps):
            return None
        return tuple(
            int(level[sum(round(x) for x in steps)])
            for level, steps in zip(self.problem.levels, found, strict=True)
        )

    def assignment(self, counts: Sequence[int]) -> dict[str, float]:
        """Binaries of a choice, for a warm start; empty if a count is not among the levels."""
        levels = self.problem.levels
        if not all(n in level for level, n in zip(levels, counts, strict=True)):
            return {}
        return {
            y.name: float(n >= at)
            for level, steps, n in zip(levels, self.steps, counts, strict=True)
            for at, y in zip(level[1:], steps, strict=True)
        }


def formulate(problem: Problem, *, ordered: bool = True) -> Formulation:
    """State the problem; ordered: with the rows y_k >= y_{k+1}, which a relaxation can spare."""
    return _Builder(problem).build(ordered)


@dataclass(frozen=True, slots=True, eq=False)
class _Range:
    """``low + width * share`` with a variable `share` in [0, 1]; a constant where width is 0."""

    low: float
    width: float
    share: pulp.LpVariable | None


Sum = dict["pulp.LpVariable", float]


class _Builder:
    """Variables and rows of one formulation; lives inside one call."""

    def __init__(self, problem: Problem) -> None:
        import pulp  # noqa: PLC0415 (slow to import)

        self._pulp = pulp
        self._problem = problem
        self._levels = [[int(n) for n in level] for level in problem.levels]
        self._program = pulp.LpProblem("prunec", pulp.LpMinimize)
        self._steps = tuple(
            tuple(
                self._program.add_variable(f"y{e}_{k}", 0, 1, pulp.LpBinary)
                for k in range(1, len(level))
            )
            for e, level in enumerate(self._levels)
        )
        self._shares: dict[Linear, _Range] = {}
        self._products: dict[tuple[int, str], tuple[pulp.LpVariable, ...]] = {}
        self._count = 0

    def build(self, ordered: bool) -> Formulation:
        constant, gains = self._gains()
        scale = max(1e-9, constant + sum(gains.values())) / OBJECTIVE_SCALE
        self._program += self._sum({y: -gain / scale for y, gain in gains.items()})
        for limit in self._problem.limits:
            total: Sum = {}
            fixed = 0.0
            unit = LIMIT_SCALE / max(1, limit.at_most)
            for term in self._problem.costs[limit.resource].terms:
                fixed += self._add_term(term, total, unit)
            self._row(total, at_most=LIMIT_SCALE * min(1, limit.at_most) - fixed)
        if ordered:
            for steps in self._steps:
                for y, after in pairwise(steps):
                    self._row({after: 1.0, y: -1.0}, at_most=0.0)
        return Formulation(self._problem, self._program, self._steps, scale, constant)

    def _gains(self) -> tuple[float, Sum]:
        constant, gains = 0.0, {}
        for value, level, steps in zip(
            self._problem.values, self._levels, self._steps, strict=True
        ):
            constant += float(value[level[0]])
            for y, below, n in zip(steps, level, level[1:], strict=False):
                gains[y] = float(value[n] - value[below])
        return constant, gains

    def _add_term(self, term: Term, total: Sum, unit: float) -> float:
        """Add ``unit * term`` to `total`; returns its constant part."""
        if not term.factors:
            return unit * term.scale
        factors = sorted(term.factors, key=self._number_of_steps)
        other = self._share(factors.pop())
        while len(factors) > 1:
            other = self._intermediate(factors.pop(), other)
        scale = unit * term.scale
        if not factors:
            return self._add_range(other, scale, total)
        return self._add_product(factors[0], other, scale, total)

    def _number_of_steps(self, factor: Linear) -> int:
        return sum(len(self._steps[e]) for e, _ in factor.terms)

    def _bounds(self, factor: Linear) -> tuple[float, float]:
        low = factor.constant + sum(m * self._levels[e][0] for e, m in factor.terms)
        high = factor.constant + sum(m * self._levels[e][-1] for e, m in factor.terms)
        return float(low), float(high)

    def _share(self, factor: Linear) -> _Range:
        """The factor as a range; one variable per distinct factor."""
        if factor not in self._shares:
            low, high = self._bounds(factor)
            width = high - low
            share = self._share_variable("f") if width else None
            if share is not None:
                row: Sum = {share: -1.0}
                for e, m in factor.terms:
                    self._add_steps(e, m / width, row)
                self._row(row, exactly=0.0)
            self._shares[factor] = _Range(low, width, share)
        return self._shares[factor]

    def _intermediate(self, factor: Linear, other: _Range) -> _Range:
        """``factor * other`` as a range, for products of more than two factors."""
        low, high = self._bounds(factor)
        bottom, top = low * other.low, high * (other.low + other.width)
        if top == bottom:
            return _Range(bottom, 0.0, None)
        share = self._share_variable("g")
        row: Sum = {share: -1.0}
        fixed = self._add_product(factor, other, 1.0 / (top - bottom), row)
        self._row(row, at_most=bottom / (top - bottom) - fixed)
        return _Range(bottom, top - bottom, share)

    def _add_range(self, other: _Range, scale: float, total: Sum) -> float:
        if other.share is not None:
            total[other.share] = total.get(other.share, 0.0) + scale * other.width
        return scale * other.low

    def _add_product(self, factor: Linear, other: _Range, scale: float, total: Sum) -> float:
        """Add ``scale * factor * other``, expanded over the steps of `factor`'s hyperedges."""
        low, _ = self._bounds(factor)
        fixed = self._add_range(other, scale * low, total)
        for e, m in factor.terms:
            self._add_steps(e, scale * m * other.low, total)
            level = self._levels[e]
            for q, below, n in zip(self._ands(e, other), level, level[1:], strict=False):
                total[q] = total.get(q, 0.0) + scale * m * other.width * (n - below)
        return fixed

    def _ands(self, e: int, other: _Range) -> tuple[pulp.LpVariable, ...]:
        """``y_k * share`` for every step of a hyperedge."""
        if other.share is None:
            return ()
        key = (e, other.share.name)
        if key not in self._products:
            ands = []
            for y in self._steps[e]:
                q = self._share_variable("q")
                self._row({other.share: 1.0, y: 1.0, q: -1.0}, at_most=1.0)
                ands.append(q)
            self._products[key] = tuple(ands)
        return self._products[key]

    def _add_steps(self, e: int, scale: float, total: Sum) -> None:
        level = self._levels[e]
        for y, below, n in zip(self._steps[e], level, level[1:], strict=False):
            total[y] = total.get(y, 0.0) + scale * (n - below)

    def _share_variable(self, kind: str) -> pulp.LpVariable:
        self._count += 1
        return self._program.add_variable(f"{kind}{self._count}", 0, 1)

    def _sum(self, row: Sum) -> pulp.LpAffineExpression:
        return self._pulp.LpAffineExpression(list(row.items()))

    def _row(self, row: Sum, *, at_most: float | None = None, exactly: float | None = None) -> None:
        pulp = self._pulp
        sense = pulp.LpConstraintLE if exactly is None else pulp.LpConstraintEQ
        side = at_most if exactly is None else exactly
        self._program += pulp.LpConstraint(self._sum(row), sense, rhs=side)

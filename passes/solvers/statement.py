"""Every row of the mixed-integer linear program, stated in PuLP.

A hyperedge with levels ``l_0 < l_1 < ...`` has binaries ``y_k = [n >= l_k]``, k >= 1, the running
sums of a one-hot choice: ``n = l_0 + sum_k (l_k - l_{k-1}) y_k``. A product ``n * F`` then needs
``y_k * F``. With ``f = (F - lo) / (hi - lo)`` in [0, 1] and ``q_k >= f + y_k - 1``, q_k >= 0,

    y_k * F  =  lo y_k + (hi - lo) q_k

which is exact at binary y because costs only grow in q, and as tight as the disaggregation of F
over the one-hot choice (both are the convex envelope of the product over the levels).

A table has one share ``w >= 0`` per cell, whose sums along each axis are the one-hot choices there:
``z_k = y_k - y_{k+1}`` for the levels of a hyperedge. For the size of a concatenation the choice is
which of its runs of equal cost it lies in, with binaries of its own. Exact at binaries, and as
tight as the table alone can be (its convex envelope over the choices).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from prunec.compiler.cost import Linear, Table, Term
from prunec.compiler.errors import SolverError
from prunec.compiler.problem import Problem
from prunec.passes.solvers.cells import Along, Runs, cells_of

if TYPE_CHECKING:
    import pulp

# Back-end tolerances are absolute (near 1e-7), and CBC prints its bound with three decimals.
LIMIT_SCALE = 1e3  # every limit reads "<= 1000"
OBJECTIVE_SCALE = 1e4  # the objective of the highest levels is 10000
CELLS = 200_000  # most table cells; PuLP needs about a second for that many


@dataclass(frozen=True, slots=True, eq=False)
class _Range:
    """``low + width * share`` with a variable `share` in [0, 1]; a constant where width is 0."""

    low: float
    width: float
    share: pulp.LpVariable | None


Sum = dict["pulp.LpVariable", float]


class Builder:
    """Variables and rows of one formulation; lives inside one call.

    program: minimises the negated, scaled objective. steps[e][k - 1] is ``[n_e >= levels[e][k]]``.
    """

    def __init__(self, problem: Problem, margin: float) -> None:
        import pulp  # noqa: PLC0415 (slow to import)

        self._pulp = pulp
        self._problem = problem
        self._margin = margin
        self._levels = [[int(n) for n in level] for level in problem.levels]
        self.program = pulp.LpProblem("prunec", pulp.LpMinimize)
        self.steps = tuple(
            tuple(
                self.program.add_variable(f"y{e}_{k}", 0, 1, pulp.LpBinary)
                for k in range(1, len(level))
            )
            for e, level in enumerate(self._levels)
        )
        self._shares: dict[Linear, _Range] = {}
        self._products: dict[tuple[int, str], tuple[pulp.LpVariable, ...]] = {}
        self._runs: dict[tuple[Linear, tuple[int, ...]], tuple[pulp.LpVariable, ...]] = {}
        self._count = 0
        self._cells = 0

    def build(self, ordered: bool) -> tuple[float, float]:
        """State everything; (scale, constant): objective = constant - scale * minimised."""
        constant, gains = self._gains()
        scale = max(1e-9, constant + sum(gains.values())) / OBJECTIVE_SCALE
        self.program += self._sum({y: -gain / scale for y, gain in gains.items()})
        for r, (row, at_most) in enumerate(self._problem.rows):
            total: Sum = {}
            fixed = 0.0
            unit = LIMIT_SCALE / max(1, at_most)
            for term in row.terms:
                fixed += self._add_term(term, total, unit)
            for table in row.tables:
                fixed += self._add_table(table, total, unit)
            right = LIMIT_SCALE * (1 + self._margin) * min(1, at_most)
            self._row(total, at_most=right - fixed, name=f"limit{r}")
        self._add_together()
        if ordered or self._cells:
            for steps in self.steps:
                for y, after in pairwise(steps):
                    self._row({after: 1.0, y: -1.0}, at_most=0.0)
        return scale, constant

    def _gains(self) -> tuple[float, Sum]:
        constant, gains = 0.0, {}
        for value, level, steps in zip(self._problem.values, self._levels, self.steps, strict=True):
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
        return sum(len(self.steps[e]) for e, _ in factor.terms)

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
            for y in self.steps[e]:
                q = self._share_variable("q")
                self._row({other.share: 1.0, y: 1.0, q: -1.0}, at_most=1.0)
                ands.append(q)
            self._products[key] = tuple(ands)
        return self._products[key]

    def _add_table(self, table: Table, total: Sum, unit: float) -> float:
        """Add ``unit * table`` to `total`; returns its constant part."""
        cells = cells_of(table, self._problem.levels)
        if not cells.axes:
            return unit * float(cells.values)
        # What every choice pays is no matter of choice: it keeps the rows small.
        least = float(cells.values.min())
        values = unit * (cells.values - least)
        chosen = [
            self._chosen(axis, size) for axis, size in zip(cells.axes, values.shape, strict=True)
        ]
        self._cells += values.size
        if self._cells > CELLS:
            raise SolverError(f"the tables have more than {CELLS} cells, too many for the MILP")
        fixed = unit * least
        if len(chosen) == 1:
            for cost, (constant, steps) in zip(values, chosen[0], strict=True):
                fixed += float(cost) * constant
                _add(steps, float(cost), total)
            return fixed
        shares = np.array([self._share_variable("w") for _ in range(values.size)], object)
        for w, cost in zip(shares, values.ravel(), strict=True):
            if cost:
                total[w] = float(cost)
        shares = shares.reshape(values.shape)
        for axis, choices in enumerate(chosen):
            for k, (constant, steps) in enumerate(choices):
                row: Sum = dict.fromkeys(np.take(shares, k, axis).ravel().tolist(), 1.0)
                _add(steps, -1.0, row)
                self._row(row, exactly=constant)
        return fixed

    def _chosen(self, axis: Along, size: int) -> list[tuple[float, Sum]]:
        """Per position of an axis ``constant + sum`` that is 1 where the choice is, else 0."""
        if isinstance(axis, Runs):
            return [(0.0, {choice: 1.0}) for choice in self._run_choices(axis)]
        out: list[tuple[float, Sum]] = [(0.0, {}) for _ in range(size)]
        steps = self.steps[axis.edge]
        for k, group in enumerate(axis.groups.tolist()):
            constant, own = out[group]
            if k == 0:
                constant += 1.0
            else:
                _add({steps[k - 1]: 1.0}, 1.0, own)
            if k < len(steps):
                _add({steps[k]: 1.0}, -1.0, own)
            out[group] = (constant, own)
        return out

    def _run_choices(self, axis: Runs) -> tuple[pulp.LpVariable, ...]:
        """One binary per run, tied to the size that lies in it."""
        key = (axis.factor, tuple(axis.lows.tolist()))
        if key not in self._runs:
            self._count += 1
            self._runs[key] = tuple(
                self.program.add_variable(f"s{self._count}_{k}", 0, 1, self._pulp.LpBinary)
                for k in range(len(axis.lows))
            )
            choices = self._runs[key]
            low, high = self._bounds(axis.factor)
            self._row(dict.fromkeys(choices, 1.0), exactly=1.0)
            for ends, sign in ((axis.lows, 1.0), (axis.highs, -1.0)):
                row: Sum = {
                    s: sign * (int(n) - low) / (high - low)
                    for s, n in zip(choices, ends, strict=True)
                }
                for e, m in axis.factor.terms:
                    self._add_steps(e, -sign * m / (high - low), row)
                self._row(row, at_most=0.0)
        return self._runs[key]

    def _add_together(self) -> None:
        """``[n > 0]`` is the same for all of a set."""
        for members in self._problem.together:
            for a, b in pairwise(members):
                (first, row), (second, other) = self._positive(a), self._positive(b)
                _add(other, -1.0, row)
                if row or first != second:
                    self._row(row, exactly=second - first)

    def _positive(self, e: int) -> tuple[float, Sum]:
        if self._levels[e][0] > 0:
            return 1.0, {}
        return 0.0, ({self.steps[e][0]: 1.0} if self.steps[e] else {})

    def _add_steps(self, e: int, scale: float, total: Sum) -> None:
        level = self._levels[e]
        for y, below, n in zip(self.steps[e], level, level[1:], strict=False):
            total[y] = total.get(y, 0.0) + scale * (n - below)

    def _share_variable(self, kind: str) -> pulp.LpVariable:
        self._count += 1
        return self.program.add_variable(f"{kind}{self._count}", 0, 1)

    def _sum(self, row: Sum) -> pulp.LpAffineExpression:
        return self._pulp.LpAffineExpression(list(row.items()))

    def _row(
        self,
        row: Sum,
        *,
        at_most: float | None = None,
        exactly: float | None = None,
        name: str | None = None,
    ) -> None:
        pulp = self._pulp
        sense = pulp.LpConstraintLE if exactly is None else pulp.LpConstraintEQ
        side = at_most if exactly is None else exactly
        self.program += pulp.LpConstraint(self._sum(row), sense, name, rhs=side)


def _add(row: Sum, scale: float, total: Sum) -> None:
    for variable, coefficient in row.items():
        total[variable] = total.get(variable, 0.0) + scale * coefficient

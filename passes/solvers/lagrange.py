"""Lagrangian relaxation of the limits, solved exactly by variable elimination.

    L(u) = max_n  sum_e V_e(n_e) - sum_r u_r (row_r(n) - limit_r)  >=  the optimum,  for any u >= 0

At the u where L is least, u_r is also what a little more of limit r is worth.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from prunec.compiler.problem import FloatArray, Problem
from prunec.passes.solvers.descent import Mender
from prunec.passes.solvers.elimination import Program, program_of

EVALUATIONS = 40
IMPOSSIBLE = 1e-9  # a row whose least value is this much (relative) above its limit


@dataclass(frozen=True, slots=True)
class Relaxation:
    """An upper bound of the objective, and the best feasible choice seen on the way, if any.

    bound: -inf where it is proven that no choice is feasible. prices: per resource the objective
    that one more percent of its dense cost would buy.
    """

    bound: float
    counts: tuple[int, ...]
    prices: Mapping[str, float] = field(default_factory=dict)


def relax(
    problem: Problem, start: tuple[int, ...] | None, gap: float, time_limit: float
) -> Relaxation | None:
    """Minimise L(u) until the gap is reached or 40 evaluations are made; None if out of reach."""
    deadline = time.monotonic() + time_limit
    program = program_of(problem)
    if program is None:
        return None
    mender, best = Mender(problem), start or ()
    if not best:
        cheap = _cheapest(problem, program, mender)
        if cheap is None:
            return Relaxation(-np.inf, ())
        best = cheap
    least = _least_objective(problem)
    bound, prices = np.inf, np.zeros(len(problem.rows))
    search = _Multipliers(len(problem.rows), problem.objective(problem.dense()), gap)
    for _ in range(EVALUATIONS):
        value, excess, counts = program.maximise(search.at)
        if value < bound:
            bound, prices = value, search.at.copy()
        if bound < least - 1e-6 * abs(least) - 1e-9:
            return Relaxation(-np.inf, ())
        mended = mender.mend(counts)
        if mended and (not best or problem.objective(mended) > problem.objective(best)):
            best = mended
        known = problem.objective(best) if best else least
        if best and bound - known <= gap * abs(bound):
            break
        if time.monotonic() > deadline or not search.step(value, excess, known):
            break
    return Relaxation(bound, best, _per_percent(problem, prices))


def _cheapest(problem: Problem, program: Program, mender: Mender) -> tuple[int, ...] | None:
    """A feasible choice from those that minimise one row each; () if none of them leads to one,
    None if a row exceeds its limit everywhere."""
    for r in range(len(problem.rows)):
        spare, _, counts = program.maximise(np.eye(len(problem.rows))[r], worth=0.0)
        if -spare > IMPOSSIBLE:
            return None
        if mended := mender.mend(counts):
            return mended
    return ()


def _least_objective(problem: Problem) -> float:
    """No choice is worth less: values do not fall."""
    return sum(float(v[level[0]]) for v, level in zip(problem.values, problem.levels, strict=True))


def _per_percent(problem: Problem, multipliers: FloatArray) -> dict[str, float]:
    """Prices of one percent of the dense costs from those of the limits of the rows."""
    prices: dict[str, float] = {}
    dense, at = problem.dense(), 0
    for limit in problem.limits:
        cost = problem.costs[limit.resource]
        total = sum(float(u) for u in multipliers[at : at + len(cost.rows)])
        at += len(cost.rows)
        prices[limit.resource] = total * 0.01 * cost(dense) / max(1, limit.at_most)
    return prices


@dataclass(frozen=True, slots=True)
class _Cut:
    """A tangent of L: at this multiplier it has this value and slope."""

    at: float
    value: float
    slope: float


class _Multipliers:
    """Where to evaluate L next; u is per limit-sized unit of cost."""

    def __init__(self, rows: int, objective: float, gap: float) -> None:
        self.at = np.full(rows, max(objective, 1e-9) / rows)
        self._most = 2.0**30 * float(self.at[0])
        self._enough = 0.02 * gap
        self._low: _Cut | None = None
        self._high: _Cut | None = None
        self._pace = 1.0
        self._best = np.inf

    def step(self, value: float, excess: FloatArray, objective: float) -> bool:
        """Move along the subgradient -excess; False when no further step can help."""
        if len(self.at) == 1:
            return self._cut(_Cut(float(self.at[0]), value, -float(excess[0])))
        # Polyak's step length towards the best feasible objective, halved where L did not fall.
        direction = np.where((self.at <= 0) & (excess < 0), 0.0, excess)
        norm = float(direction @ direction)
        if norm == 0.0:
            return False
        self._pace = self._pace if value < self._best else self._pace * 0.7
        self._best = min(self._best, value)
        length = self._pace * (value - objective) / norm
        self.at = np.maximum(0.0, self.at + length * direction)
        return True

    def _cut(self, cut: _Cut) -> bool:
        """Kelley's cutting planes: next is where the two innermost tangents meet.

        L is convex and piecewise linear, so their meeting point is below its minimum: once that
        is hardly lower than the best value, more evaluations are wasted.
        """
        if cut.slope < 0:
            self._low = cut
        else:
            self._high = cut
        self._best = min(self._best, cut.value)
        low, high = self._low, self._high
        if high is None:
            self.at[0] = 2 * cut.at
            return cut.at < self._most
        if low is None:  # without the limit the optimum is within it
            self.at[0] = cut.at / 2
            return cut.at > 1e-9
        if high.slope - low.slope <= 0:
            return False
        crossing = low.value - high.value + high.slope * high.at - low.slope * low.at
        self.at[0] = crossing / (high.slope - low.slope)
        floor = low.value + low.slope * (float(self.at[0]) - low.at)
        return self._best - floor > self._enough * abs(self._best)

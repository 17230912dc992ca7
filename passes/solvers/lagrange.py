"""Lagrangian relaxation of the limits, solved exactly by variable elimination.

    L(u) = max_n  sum_e V_e(n_e) - sum_r u_r (cost_r(n) - limit_r)  >=  the optimum,  for any u >= 0

Costs expand into products of few kept counts, so the maximum over n is a dynamic program over the
graph "which hyperedges share a product" (bucket elimination; Dechter, Artificial Intelligence 113,
1999). It is cheap for chains of blocks (residual networks) and out of reach where everything meets
everything (dense blocks): then there is no answer.

Tables that are too large are made over every second, fourth, ... level with values that are raised
until the line through them lies above all levels. Costs are affine in every single count, so the
maximum of the raised function is at one of the levels kept: still an upper bound.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from prunec.compiler.problem import FloatArray, IntArray, Problem
from prunec.passes.solvers.greedy import repair

CELLS = 1 << 24  # largest sum of table sizes that is tried
STRIDES = 16  # coarsest choice of levels that is tried
FEW_LEVELS = 16  # hyperedges with no more levels keep all of them
PRODUCTS = 20_000  # most products that the costs may expand into

Scope = tuple[int, ...]
Table = tuple[Scope, FloatArray]


@dataclass(frozen=True, slots=True)
class Relaxation:
    """An upper bound of the objective, and the best feasible choice seen on the way, if any."""

    bound: float
    counts: tuple[int, ...]


def relax(
    problem: Problem, start: tuple[int, ...] | None, gap: float, time_limit: float
) -> Relaxation | None:
    """Minimise L(u) until the gap is reached or 40 evaluations are made; None if out of reach."""
    deadline = time.monotonic() + time_limit
    program = _program(problem)
    if program is None:
        return None
    bound, best = np.inf, start or ()
    search = _Multipliers(len(problem.limits), problem.objective(problem.dense()), gap)
    for _ in range(40):
        value, counts = program.maximise(search.at)
        bound = min(bound, value)
        mended = repair(problem, counts)
        if mended and (not best or problem.objective(mended) > problem.objective(best)):
            best = mended
        if best and bound - problem.objective(best) <= gap * abs(bound):
            break
        excess = np.array(
            [problem.costs[x.resource](counts) / max(1, x.at_most) - 1 for x in problem.limits]
        )
        if time.monotonic() > deadline or not search.step(value, excess, problem.objective(best)):
            break
    return Relaxation(bound, best)


def _program(problem: Problem) -> _Program | None:
    """The dynamic program over all levels, or over as many as its tables can hold."""
    if not problem.limits:
        return None
    free = frozenset(e for e, level in enumerate(problem.levels) if len(level) > 1)
    expanded = _expand(problem, free)
    if expanded is None:
        return None
    scopes = sorted({_scope(powers) for row in expanded for powers in row})
    affine = all(len(_scope(powers)) == len(powers) for row in expanded for powers in row)
    stride = 1
    while True:
        levels = [_strided(len(level), stride) for level in problem.levels]
        order, cells = _eliminate([len(level) for level in levels], scopes)
        if cells <= CELLS:
            break
        stride *= 2
        if not affine or stride > STRIDES:
            return None
    if stride > 1:
        problem = _raised(problem, levels)
    return _Program.of(problem, expanded, scopes, order)


def _strided(size: int, stride: int) -> IntArray:
    """Positions 0, stride, ... and the last one; a short list is left as it is."""
    if size <= FEW_LEVELS:
        return np.arange(size)
    return np.unique(np.append(np.arange(0, size, stride), size - 1))


def _raised(problem: Problem, kept: Sequence[IntArray]) -> Problem:
    """The problem on fewer levels, with values whose interpolation is above all old values."""
    values, levels = [], []
    for value, level, at in zip(problem.values, problem.levels, kept, strict=True):
        nodes = level[at]
        above = value[level] - np.interp(level, nodes, value[nodes])
        segment = np.searchsorted(at, np.arange(len(level)), side="right") - 1
        lift = np.zeros(len(at))
        np.maximum.at(lift, segment, above)
        raised = value.copy()
        raised[nodes] += np.maximum(lift, np.append(0.0, lift[:-1]))
        values.append(raised)
        levels.append(nodes)
    return replace(problem, values=tuple(values), levels=tuple(levels))


@dataclass(frozen=True, slots=True)
class _Cut:
    """A tangent of L: at this multiplier it has this value and slope."""

    at: float
    value: float
    slope: float


class _Multipliers:
    """Where to evaluate L next; u is per limit-sized unit of cost."""

    def __init__(self, limits: int, objective: float, gap: float) -> None:
        self.at = np.full(limits, objective / limits)
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
            return True
        if low is None:  # without the limit the optimum is within it
            self.at[0] = cut.at / 2
            return cut.at > 1e-9
        if high.slope - low.slope <= 0:
            return False
        crossing = low.value - high.value + high.slope * high.at - low.slope * low.at
        self.at[0] = crossing / (high.slope - low.slope)
        floor = low.value + low.slope * (float(self.at[0]) - low.at)
        return self._best - floor > self._enough * abs(self._best)


@dataclass(frozen=True, slots=True, eq=False)
class _Program:
    """Tables of the costs by scope, and an elimination order.

    tables: per scope the cost of each limit in units of that limit, (R, *levels); order: hyperedges
    with their neighbours at the time of elimination.
    """

    problem: Problem
    constants: FloatArray
    tables: tuple[Table, ...]
    order: tuple[tuple[int, Scope], ...]

    @classmethod
    def of(
        cls,
        problem: Problem,
        expanded: Sequence[Mapping[Scope, float]],
        scopes: Sequence[Scope],
        order: tuple[tuple[int, Scope], ...],
    ) -> _Program:
        """Tabulate the expanded costs."""
        sizes = [len(level) for level in problem.levels]
        constants = np.array([row.get((), 0.0) - 1.0 for row in expanded])
        tables = {
            scope: np.zeros((len(expanded), *(sizes[e] for e in scope)))
            for scope in scopes
            if scope
        }
        for r, row in enumerate(expanded):
            for powers, scale in row.items():
                if powers:
                    scope = _scope(powers)
                    tables[scope][r] += scale * _outer(problem, scope, powers)
        return cls(problem, constants, tuple(tables.items()), order)

    def maximise(self, multipliers: FloatArray) -> tuple[float, tuple[int, ...]]:
        """``L(u)`` and a choice that attains it."""
        problem = self.problem
        tables: list[Table] = [
            ((e,), value[level])
            for e, (value, level) in enumerate(zip(problem.values, problem.levels, strict=True))
        ]
        tables += [(scope, -np.tensordot(multipliers, t, 1)) for scope, t in self.tables]
        total = -float(multipliers @ self.constants)
        choices: list[tuple[int, Scope, np.ndarray]] = []
        for e, neighbours in self.order:
            scope = (*neighbours, e)
            joint = np.zeros([len(problem.levels[i]) for i in scope])
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
        at: dict[int, int] = {}
        for e, neighbours, best in reversed(choices):
            at[e] = int(best[tuple(at[i] for i in neighbours)])
        return total, tuple(int(level[at[e]]) for e, level in enumerate(problem.levels))


def _scope(powers: Scope) -> Scope:
    return tuple(sorted(set(powers)))


def _expand(problem: Problem, free: frozenset[int]) -> list[dict[Scope, float]] | None:
    """Per limit the cost as a sum of ``scale * prod n[e]``, in units of the limit."""
    rows = []
    count = 0
    for limit in problem.limits:
        row: dict[Scope, float] = {}
        for term in problem.costs[limit.resource].terms:
            factors: list[dict[Scope, int]] = []
            for factor in term.factors:
                parts: dict[Scope, int] = {(): factor.constant}
                for e, m in factor.terms:
                    if e in free:
                        parts[(e,)] = m
                    else:
                        parts[()] += m * int(problem.levels[e][0])
                factors.append({k: m for k, m in parts.items() if m})
            count += prod(len(f) for f in factors)
            if count > PRODUCTS:
                return None
            for choice in itertools.product(*(f.items() for f in factors)):
                powers = tuple(sorted(e for part, _ in choice for e in part))
                scale = term.scale * prod(m for _, m in choice) / max(1, limit.at_most)
                row[powers] = row.get(powers, 0.0) + scale
        rows.append(row)
    return rows


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


def _outer(problem: Problem, scope: Scope, powers: Scope) -> FloatArray:
    """``prod_e n[e] ** power`` over all levels of a scope."""
    table = np.ones(())
    for e in scope:
        counts = problem.levels[e].astype(np.float64) ** powers.count(e)
        table = table[..., None] * counts
    return table


def _spread(inner: Scope, table: FloatArray, scope: Scope) -> FloatArray:
    """A table over `inner` with its axes where they are in `scope`, unit axes elsewhere."""
    order: Mapping[int, int] = {e: i for i, e in enumerate(scope)}
    axes = [order[e] for e in inner]
    shape = [1] * len(scope)
    for axis, size in zip(axes, table.shape, strict=True):
        shape[axis] = size
    return table.transpose(np.argsort(axes)).reshape(shape)

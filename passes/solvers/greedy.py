"""Greedy: drop the cheapest value per cost until the limits hold, refill, then exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.problem import Problem, Solution, Status
from prunec.passes.solvers.search import Products, Search

JUMPS = (-1, 1, -2, 2, -4, 4, -8, 8)
NO_EDGE = -1


@dataclass(frozen=True, slots=True)
class Greedy:
    """Steepest descent from dense, refill and exchanges; never over a limit, no bound.

    moves: most steps that the exchanges may try. Costs are polynomials with coefficients >= 0 and
    values are concave, so the next level is always the best one to drop to.
    """

    name: ClassVar[str] = "greedy"
    moves: int = 4000

    def __call__(self, problem: Problem, start: tuple[int, ...] | None) -> Solution:
        """Solve from dense; `start` is used instead of the result where it is better."""
        if problem.violated(problem.smallest()):
            return Solution((), 0.0, None, Status.INFEASIBLE, self.name)
        dense = problem.dense()
        if not problem.violated(dense):
            value = problem.objective(dense)
            return Solution(dense, value, value, Status.OPTIMAL, self.name)
        search = Search(problem, Products.of(problem), dense)
        _drop(search)
        _fill(search)
        _exchange(search, self.moves)
        counts = search.counts()
        if problem.violated(counts):  # costs beyond 2**53 lose exactness in float64
            counts = problem.smallest()
        if start and not problem.violated(start):
            counts = max(counts, start, key=problem.objective)
        return Solution(counts, problem.objective(counts), None, Status.FEASIBLE, self.name)


def repair(problem: Problem, counts: tuple[int, ...]) -> tuple[int, ...] | None:
    """Drop from `counts` to within the limits and refill; None if no choice meets them."""
    if problem.violated(problem.smallest()):
        return None
    search = Search(problem, Products.of(problem), counts)
    _drop(search)
    _fill(search)
    mended = search.counts()
    return problem.smallest() if problem.violated(mended) else mended


def _drop(search: Search, fixed: int = NO_EDGE) -> int:
    """Step down until no limit is exceeded; returns the number of steps, or -1 if stuck."""
    steps = 0
    while True:
        slack = search.slack()
        over = slack < 0
        if not over.any():
            return steps
        costs, values = search.moves(0)
        # Share of what is still to be saved, at most all of it: the last step is the cheapest one.
        saved = np.minimum(costs[over] / -slack[over, None], 1.0).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(saved > 0, (values + 1e-12) / saved, np.inf)
        ratio[np.isnan(ratio)] = np.inf
        if fixed != NO_EDGE:
            ratio[fixed] = np.inf
        edge = int(ratio.argmin())
        if ratio[edge] == np.inf:
            return -1
        search.move(edge, search.at[edge] - 1)
        steps += 1


def _fill(search: Search, fixed: int = NO_EDGE) -> int:
    """Step up by the best value per cost while something fits; returns the number of steps."""
    steps = 0
    while True:
        slack = search.slack()
        costs, values = search.moves(1)
        used = (costs / np.maximum(search.at_most, 1.0)[:, None]).sum(axis=0) + 1e-18
        fits = (costs <= slack[:, None]).all(axis=0) & (values > 0)
        if fixed != NO_EDGE:
            fits[fixed] = False
        if not fits.any():
            return steps
        edge = int(np.where(fits, values / used, -1.0).argmax())
        search.move(edge, search.at[edge] + 1)
        steps += 1


def _exchange(search: Search, moves: int) -> None:
    """Force one hyperedge some levels away, mend with the others, keep what is better."""
    edges = [e for e in range(len(search.at)) if search.reachable(e, -1) or search.reachable(e, 1)]
    best, idle = search.value(), 0
    trials = [(e, jump) for jump in JUMPS for e in edges]
    turn = 0
    while trials and idle < len(trials) and moves > 0:
        edge, jump = trials[turn % len(trials)]
        turn, idle = turn + 1, idle + 1
        if not search.reachable(edge, jump):
            continue
        before = list(search.at)
        search.move(edge, before[edge] + jump)
        dropped = _drop(search, edge)
        moves -= 1 + abs(dropped)
        if dropped >= 0:
            moves -= _fill(search, edge) + 1
            if search.value() > best * (1 + 1e-12):
                best, idle = search.value(), 0
                continue
        search.restore(before)

"""Steepest descent into the limits, refill and exchanges: choices that are feasible, no proof."""

from __future__ import annotations

import numpy as np

from prunec.compiler.problem import Problem
from prunec.passes.solvers.products import Products
from prunec.passes.solvers.search import Search

JUMPS = (-1, 1, -2, 2, -4, 4, -8, 8)
NO_EDGE = -1


class Mender:
    """Makes choices of one problem feasible; holds what all of them share."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._products = Products.of(problem)

    def construct(self, moves: int) -> tuple[int, ...]:
        """Drop from dense, refill, then exchange; () if no feasible choice was met.

        moves: most steps that the exchanges may try; fewer where a step is more work.
        """
        search = self._search(self._problem.dense())
        if _drop(search) < 0:
            # Where costs are not monotone, the lowest levels may be a better place to begin.
            search = self._search(self._problem.smallest())
            if _drop(search) < 0:
                return ()
        _fill(search)
        _exchange(search, int(moves / search.effort()))
        return self._checked(search.counts())

    def mend(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        """Drop from `counts` to within the limits and refill; () if that leads nowhere."""
        search = self._search(counts)
        if _drop(search) < 0:
            return self._checked(self._problem.smallest())
        _fill(search)
        return self._checked(search.counts())

    def _search(self, start: tuple[int, ...]) -> Search:
        return Search(self._problem, self._products, start)

    def _checked(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        """The choice if it is feasible; costs beyond 2**53 lose exactness in float64."""
        for each in (counts, self._problem.smallest()):
            if self._problem.feasible(each):
                return each
        return ()


def repair(problem: Problem, counts: tuple[int, ...]) -> tuple[int, ...]:
    """Drop from `counts` to within the limits and refill; () if that leads nowhere."""
    return Mender(problem).mend(counts)


def _drop(search: Search, fixed: int = NO_EDGE) -> int:
    """Move until no limit is exceeded; returns the number of moves, or -1 if stuck.

    No move exceeds a limit that was kept, or exceeds one by more, so this ends.
    """
    steps = 0
    while True:
        slack = search.slack()
        over = slack < 0
        if not over.any():
            return steps
        moves = search.moves()
        costs = moves.costs[over]
        # Share of what is still to be saved, at most all of it: the last step is the cheapest one.
        saved = np.minimum(-costs / -slack[over, None], 1.0).sum(axis=0)
        helps = (saved > 1e-13) & (costs <= 0).all(axis=0)
        helps &= (moves.costs[~over] <= slack[~over, None]).all(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(helps, (1e-12 - moves.worths) / saved, np.inf)
        ratio[np.isnan(ratio) | (moves.edges == fixed)] = np.inf
        best = int(ratio.argmin())
        if ratio[best] == np.inf:
            return -1
        search.take(best)
        steps += 1


def _fill(search: Search, fixed: int = NO_EDGE) -> int:
    """Take the best value per cost while something fits; returns the number of moves."""
    steps = 0
    while True:
        slack = search.slack()
        moves = search.moves()
        used = (moves.costs / np.maximum(search.at_most, 1.0)[:, None]).sum(axis=0) + 1e-18
        fits = (moves.costs <= slack[:, None]).all(axis=0) & (moves.worths > 0)
        fits &= moves.edges != fixed
        if not fits.any():
            return steps
        search.take(int(np.where(fits, moves.worths / np.maximum(used, 1e-18), -1.0).argmax()))
        steps += 1


def _exchange(search: Search, moves: int) -> None:
    """Force one hyperedge some levels away, or a set to 0 and back; mend with the others, and
    keep what is better."""
    edges = [e for e in range(search.edges) if search.reachable(e, -1) or search.reachable(e, 1)]
    best, idle = search.value(), 0
    trials = [(e, jump) for jump in JUMPS for e in edges]
    trials += [(search.edges + s, 0) for s in search.toggles()]
    turn = 0
    while trials and idle < len(trials) and moves > 0:
        edge, jump = trials[turn % len(trials)]
        turn, idle = turn + 1, idle + 1
        before = list(search.at)
        if edge >= search.edges:
            search.toggle(edge - search.edges)
        elif search.reachable(edge, jump):
            search.move(edge, before[edge] + jump)
        else:
            continue
        dropped = _drop(search, edge)
        moves -= 1 + abs(dropped)
        if dropped >= 0:
            moves -= _fill(search, edge) + 1
            if search.value() > best * (1 + 1e-12):
                best, idle = search.value(), 0
                continue
        search.restore(before)

"""Exact selection: Lagrangian bound, LP bounds that narrow the levels, then a MILP back end."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from prunec.compiler.errors import SolverError, UsageError
from prunec.compiler.problem import Problem, Solution, Status
from prunec.passes.solvers import backends
from prunec.passes.solvers.backends import Request, Verdict
from prunec.passes.solvers.bounds import TOLERANCE, relaxation_of, settled
from prunec.passes.solvers.descent import repair
from prunec.passes.solvers.formulation import Formulation, formulate
from prunec.passes.solvers.lagrange import relax
from prunec.passes.solvers.rows import without_idle_rows

logger = logging.getLogger(__name__)

ROUNDS = 8  # most LPs that narrow the levels
ROOM = 1e-6  # relative; how far above the limits nothing may be, to be called infeasible


@dataclass(frozen=True, slots=True)
class Milp:
    """Mixed-integer program through PuLP; proves `gap` or stops at `time_limit` seconds.

    A back end may need some seconds more to stop; CBC, which may need a minute, is ended after two.
    backend: "highs", "cbc" or "auto" (HiGHS if installed). relaxation: first try the Lagrangian
    bound, which often proves the gap alone. The answer is re-checked in exact integers, and the
    bound is the best of ours and the back end's. A back end that fails, or tables that are too
    large for it, are logged; the best choice known so far (`start`, or one that the relaxation met)
    is then the answer.
    """

    name: ClassVar[str] = "milp"
    backend: str = "auto"
    gap: float = 0.001
    time_limit: float = 30.0
    threads: int = 1
    relaxation: bool = True

    def __post_init__(self) -> None:
        for option, value, least in (
            ("gap", self.gap, 0.0),
            ("time_limit", self.time_limit, 0.0),
            ("threads", self.threads, 1),
        ):
            if not value >= least:
                raise UsageError(f"{option}={value} of milp must be at least {least}")

    def __call__(self, problem: Problem, start: tuple[int, ...] | None) -> Solution:
        """Solve; `start` is the first incumbent."""
        if (known := settled(problem, self.name)) is not None:
            return known
        left = _untorn(without_idle_rows(problem))
        assert left is not None, "settled() has seen that the lowest levels go together"
        run = _Run(self, left, start)
        try:
            run.solve()
        except SolverError as error:
            logger.warning("%s; the best choice known so far is used", error)
        return run.solution()


class _Run:
    """Incumbent, bound and remaining levels of one call."""

    def __init__(self, options: Milp, problem: Problem, start: tuple[int, ...] | None) -> None:
        self._options = options
        self._problem = problem
        self._left = problem  # the problem over the levels that are not ruled out yet
        self._backend = backends.choose(options.backend)
        self._deadline = time.monotonic() + options.time_limit
        self._best: tuple[int, ...] = ()
        self._bound = problem.objective(problem.dense())
        self._proof = "dense"
        self._prices: Mapping[str, float] = {}
        self._infeasible = False
        self._ruled_out = -np.inf  # no choice with a level that was ruled out is above this
        self._offer(start)

    def solution(self) -> Solution:
        """The incumbent with its proof."""
        options = self._options
        if not self._best:
            status = Status.INFEASIBLE if self._infeasible else Status.NONE
            bound = None if self._infeasible else self._bound
            return Solution((), 0.0, bound, status, options.name, self._proof)
        value = self._problem.objective(self._best)
        status = Status.OPTIMAL if self._proven() else Status.FEASIBLE
        return Solution(
            self._best,
            value,
            max(value, self._bound),
            status,
            options.name,
            self._proof,
            self._prices,
        )

    def solve(self) -> None:
        """Relax, narrow, relax again if the tables were too large, search."""
        relaxed = self._relax()
        self._narrow()
        if not relaxed:
            self._relax()
        if not self._proven() and not self._infeasible:
            self._search()

    def _proven(self) -> bool:
        if not self._best:
            return False
        missing = self._bound - self._problem.objective(self._best)
        return missing <= (self._options.gap + TOLERANCE) * abs(self._bound)

    def _cutoff(self) -> float:
        """Choices that are worse than this are of no interest: they cannot break the gap."""
        if not self._best:
            return -np.inf
        value = self._problem.objective(self._best)
        return value / (1 - 0.99 * min(self._options.gap, 0.9))

    def _seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    def _narrowed(self) -> bool:
        return self._left is not self._problem

    def _offer(self, counts: tuple[int, ...] | None) -> None:
        if not counts or not self._problem.feasible(counts):
            return
        if not self._best or self._problem.objective(counts) > self._problem.objective(self._best):
            self._best = counts

    def _tighten_bound(self, claimed: float, proof: str) -> None:
        """Accept a bound for the levels left; those that were ruled out are below the cutoff."""
        claimed = max(claimed, self._ruled_out)
        if claimed < self._bound:
            self._bound, self._proof = claimed, proof

    def _relax(self) -> bool:
        if not self._options.relaxation or self._proven() or self._infeasible:
            return False
        found = relax(self._left, self._best or None, self._options.gap, self._seconds_left())
        if found is None:
            return False
        if found.bound == -np.inf and not self._best and not self._narrowed():
            self._infeasible, self._proof = True, "lagrangian"
            return True
        self._check_bound(found.bound, "the Lagrangian relaxation")
        self._tighten_bound(found.bound, "lagrangian")
        self._prices = self._prices or found.prices
        self._offer(found.counts)
        return True

    def _narrow(self) -> None:
        """Rule out levels by the reduced costs of LP relaxations, each over fewer levels."""
        proof = relaxation_of(self._backend)
        for _ in range(ROUNDS):
            if self._proven() or self._infeasible or self._seconds_left() <= 0:
                return
            if self._settle(proof):
                return
            form = formulate(self._left, ordered=False)
            request = Request(False, 0.0, self._seconds_left(), self._options.threads)
            answer = backends.run(self._backend, form.program, request)
            if answer.verdict is Verdict.STOPPED:
                return
            if answer.verdict is Verdict.INFEASIBLE and self._explained(proof):
                return
            if answer.verdict is not Verdict.FINISHED or answer.bound is None:
                raise SolverError(
                    f"{self._backend} calls the relaxation of a feasible problem "
                    f"{answer.verdict.value}"
                )
            bound = form.objective(answer.bound)
            self._check_bound(bound, self._backend)
            self._tighten_bound(bound, proof)
            self._prices = self._prices or form.prices(answer.duals)
            before = sum(len(level) for level in self._left.levels)
            left = _without_hopeless(form, bound, self._cutoff(), answer.reduced_costs)
            if left is not None and sum(len(level) for level in left.levels) == before:
                return
            self._ruled_out = max(self._ruled_out, self._cutoff())
            if left is None:
                return self._tighten_bound(-np.inf, proof)
            self._left = left

    def _settle(self, proof: str) -> bool:
        """Whether one choice is left; back ends do not take problems without variables."""
        if any(len(level) > 1 for level in self._left.levels):
            return False
        only = self._left.dense()
        self._offer(only)
        if self._problem.feasible(only):
            self._tighten_bound(self._problem.objective(only), proof)
        elif self._narrowed():
            self._tighten_bound(-np.inf, proof)
        else:
            self._infeasible, self._proof = True, proof
        return True

    def _explained(self, proof: str) -> bool:
        """Whether a back end's word that nothing is feasible can be; takes it as proven then.

        What it knows of is only what was not ruled out. On the whole problem, with no choice known,
        it has to say so again with a little more room than its tolerance.
        """
        if self._narrowed():
            self._tighten_bound(-np.inf, proof)
            return True
        if self._best or self._problem.monotone:
            return False
        form = formulate(self._problem, margin=ROOM)
        request = Request(True, 0.0, self._seconds_left(), self._options.threads)
        answer = backends.run(self._backend, form.program, request)
        if answer.verdict is Verdict.INFEASIBLE:
            self._infeasible, self._proof = True, self._backend
        return True

    def _check_bound(self, bound: float, claimant: str) -> None:
        if self._narrowed() or not self._best:
            return
        value = self._problem.objective(self._best)
        if not bound >= value - TOLERANCE * abs(value):
            raise SolverError(
                f"{claimant} claims the bound {bound:.6g}, below the known value {value:.6g}"
            )

    def _search(self) -> None:
        """Hand the rest to the back end's branch and bound and check what it says."""
        if self._seconds_left() <= 0:
            return
        form = formulate(self._left)
        start = form.assignment(self._best) if self._best else {}
        options = self._options
        request = Request(True, options.gap, self._seconds_left(), options.threads, start)
        answer = backends.run(self._backend, form.program, request)
        if answer.verdict is Verdict.INFEASIBLE and self._explained(self._backend):
            return
        if answer.verdict in (Verdict.INFEASIBLE, Verdict.UNBOUNDED):
            raise SolverError(f"{self._backend} calls a feasible problem {answer.verdict.value}")
        bound = None if answer.bound is None else form.objective(answer.bound)
        if answer.values:
            counts = form.counts(answer.values)
            if counts is None:
                raise SolverError(f"{self._backend} gave fractional choices")
            value = self._problem.objective(counts)
            exact = self._problem.feasible(counts)
            if exact and bound is not None and bound < value - TOLERANCE * abs(value):
                logger.warning("%s claims a bound below its own solution", self._backend)
                bound = None
            self._offer(repair(self._problem, counts))
        if bound is not None:
            self._check_bound(bound, self._backend)
            self._tighten_bound(bound, self._backend)


def _without_hopeless(
    form: Formulation, bound: float, cutoff: float, reduced_costs: Mapping[str, float]
) -> Problem | None:
    """The problem without levels that the LP's reduced costs put below the cutoff; None if empty.

    For any x within the bounds of the LP: objective(x) <= bound - sum_j |d_j| |x_j - x*_j| over the
    variables that sit at a bound x*_j with the reduced cost d_j of that sign. Going to level k
    changes all steps up to k (or down to k), so the losses add up.
    """
    levels = []
    margin = TOLERANCE * abs(bound)
    for level, steps in zip(form.problem.levels, form.steps, strict=True):
        costs = form.scale * np.array([reduced_costs.get(y.name, 0.0) for y in steps])
        most_up = bound - np.cumsum(np.maximum(costs, 0.0))  # reaching level k + 1 or higher
        most_down = bound - np.cumsum(np.maximum(-costs, 0.0)[::-1])[::-1]  # staying at k or lower
        last = int((most_up >= cutoff - margin).sum())
        first = int((most_down < cutoff - margin).sum())
        if first > last:
            return None
        levels.append(level[first : last + 1])
    return _untorn(replace(form.problem, levels=tuple(levels)))


def _untorn(problem: Problem) -> Problem | None:
    """The problem without levels that no other member of a set of `together` can go with."""
    levels = list(problem.levels)
    for members in problem.together:
        zero = all(levels[e][0] == 0 for e in members)
        more = all(levels[e][-1] > 0 for e in members)
        for e in members:
            levels[e] = levels[e][(levels[e] > 0) if not zero else slice(None)]
            levels[e] = levels[e][levels[e] == 0] if not more else levels[e]
            if not len(levels[e]):
                return None
    return replace(problem, levels=tuple(levels))

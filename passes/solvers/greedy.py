"""Greedy: drop the cheapest value per cost until the limits hold, refill, then exchange."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from prunec.compiler.problem import Problem, Solution, Status
from prunec.passes.solvers.bounds import Bound, bound_of, settled
from prunec.passes.solvers.descent import Mender
from prunec.passes.solvers.rows import without_idle_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Greedy:
    """Steepest descent from dense, refill and exchanges; never over a limit.

    moves: most steps that the exchanges may try. bound: also prove how good the answer is, by the
    Lagrangian relaxation or, where that is out of reach, by linear programming; `time_limit`
    seconds at most.
    """

    name: ClassVar[str] = "greedy"
    moves: int = 4000
    bound: bool = True
    time_limit: float = 10.0

    def __call__(self, problem: Problem, start: tuple[int, ...] | None) -> Solution:
        """Solve from dense; `start` is used instead of the result where it is better."""
        if (known := settled(problem, self.name)) is not None:
            return known
        left = without_idle_rows(problem)
        counts = Mender(left).construct(self.moves)
        if start and problem.feasible(start):
            counts = max(counts, start, key=problem.objective) if counts else start
        proven = bound_of(left, counts, self.time_limit) if self.bound or not counts else Bound()
        if not counts:
            counts = proven.counts
        if not counts:
            status = Status.INFEASIBLE if proven.infeasible else Status.NONE
            return Solution((), 0.0, None, status, self.name, proven.proof)
        value = problem.objective(counts)
        bound = None if proven.value is None else max(value, proven.value)
        return Solution(
            counts, value, bound, Status.FEASIBLE, self.name, proven.proof, proven.prices
        )

"""Greedy first, then the MILP from there; the better of both, with the bound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from prunec.compiler.problem import Problem, Solution, Status
from prunec.passes.solvers.greedy import Greedy
from prunec.passes.solvers.milp import Milp


@dataclass(frozen=True, slots=True)
class Auto:
    """The default solver: never worse than greedy, and says how far from the optimum it may be."""

    name: ClassVar[str] = "auto"
    gap: float = 0.001
    time_limit: float = 30.0

    def __post_init__(self) -> None:
        self._milp()  # refuses bad options before any work is done

    def __call__(self, problem: Problem, start: tuple[int, ...] | None) -> Solution:
        """Solve; `start` competes with greedy's answer."""
        quick = Greedy(bound=False)(problem, start)
        if quick.status in (Status.INFEASIBLE, Status.OPTIMAL):
            return quick
        exact = self._milp()(problem, quick.counts or None)
        if quick.counts and (not exact.counts or exact.objective < quick.objective):
            return replace(quick, bound=exact.bound, proof=exact.proof, prices=exact.prices)
        # `solver` names who found the choice; the proof is milp's in any case.
        return replace(exact, solver=quick.solver) if exact.counts == quick.counts else exact

    def _milp(self) -> Milp:
        return Milp(gap=self.gap, time_limit=self.time_limit)

"""The Lagrangian solver, and the MILP after it where the instance is small enough to prove."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from prunec.compiler.pairwise import Mask, PairwiseProblem, PairwiseSolution
from prunec.compiler.problem import Status
from prunec.passes.pairwise.lagrangian import Lagrangian
from prunec.passes.pairwise.milp import Milp

PAIRS = 400  # more products than this take HiGHS longer than a user waits


@dataclass(frozen=True, slots=True)
class Auto:
    """The default: lagrangian, then milp from there if the model is tiny; the better bound."""

    name: ClassVar[str] = "auto"
    seed: int = 0
    time_limit: float = 10.0

    def __call__(self, problem: PairwiseProblem, start: Mask | None) -> PairwiseSolution:
        """Solve; `start` competes."""
        quick = Lagrangian(seed=self.seed)(problem, start)
        pairs = sum(int((block.values > 0).sum()) for block in problem.blocks)
        if quick.status is Status.OPTIMAL or pairs > PAIRS:
            return quick
        milp = Milp(time_limit=self.time_limit)
        if quick.status is not Status.FEASIBLE:
            return milp(problem, start)  # it finds a choice, or proves that there is none
        exact = milp(problem, quick.mask)
        bounds = [(s.bound, s.proof) for s in (quick, exact) if s.bound is not None]
        best = exact if len(exact.mask) and exact.objective > quick.objective else quick
        if not bounds:
            return best
        bound, proof = min(bounds)
        status = Status.OPTIMAL if exact.status is Status.OPTIMAL else Status.FEASIBLE
        return replace(best, bound=max(bound, best.objective), proof=proof, status=status)

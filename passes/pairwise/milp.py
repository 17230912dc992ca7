"""Small instances exactly: products of binaries, costs through counts, HiGHS or CBC."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from prunec.compiler.errors import SolverError, UsageError
from prunec.compiler.hypergraph import KEPT, Join
from prunec.compiler.pairwise import Mask, PairwiseProblem, PairwiseSolution
from prunec.compiler.problem import Problem, Status
from prunec.passes.solvers import backends
from prunec.passes.solvers.backends import Request, Verdict
from prunec.passes.solvers.formulation import Formulation, formulate

if TYPE_CHECKING:
    import pulp

logger = logging.getLogger(__name__)

SCALE = 1e4  # the dense objective, for the back end: its tolerances are absolute, near 1e-7
ROOM = 1e-6  # relative: what the back end's bound may lack by its tolerances
INTEGRAL = 1e-4
MOST = 200_000  # products; PuLP needs seconds to write that many


@dataclass(frozen=True, slots=True)
class Milp:
    """Mixed-integer program through PuLP for models of up to some hundred products.

    A product of two binaries is a continuous variable below both (McCormick; importance is >= 0, so
    the lower side is not needed); costs go through the kept counts, as in the separable milp.
    """

    name: ClassVar[str] = "milp"
    backend: str = "auto"
    gap: float = 1e-6
    time_limit: float = 30.0
    threads: int = 1

    def __post_init__(self) -> None:
        if not (self.gap >= 0 and self.time_limit >= 0 and self.threads >= 1):
            raise UsageError("solver 'milp': gap and time_limit must be >= 0, threads >= 1")

    def __call__(self, problem: PairwiseProblem, start: Mask | None) -> PairwiseSolution:
        """Solve; `start` is the first incumbent, and the answer where nothing better is found."""
        nothing = PairwiseSolution(np.zeros(0, bool), 0.0, None, Status.NONE, self.name)
        known = nothing
        if start is not None and not problem.faults(start):
            known = replace(
                nothing, mask=start, objective=problem.objective(start), status=Status.FEASIBLE
            )
        products = sum(int((block.values > 0).sum()) for block in problem.blocks)
        if products > MOST:
            raise UsageError(
                f"solver 'milp': {products} products of channels are too many for it (at most "
                f"{MOST}); use --solver lagrangian"
            )
        backend = backends.choose(self.backend)
        program = _Program(problem)
        request = Request(
            True, self.gap, self.time_limit, self.threads,
            program.assignment(start) if len(known.mask) and start is not None else {},
        )  # fmt: skip
        try:
            answer = backends.run(backend, program.pulp, request)
        except SolverError as error:
            logger.warning("%s; the best choice known so far is used", error)
            return known
        if answer.verdict is Verdict.INFEASIBLE:
            return replace(nothing, status=Status.INFEASIBLE)
        mask = program.mask(answer.values)
        best = known
        if mask is not None and not problem.faults(mask):
            value = problem.objective(mask)
            if value >= known.objective or not len(known.mask):
                best = replace(nothing, mask=mask, objective=value, status=Status.FEASIBLE)
        if answer.bound is None:
            return best
        bound = program.objective(answer.bound) + ROOM * program.full
        done = len(best.mask) and bound - best.objective <= (self.gap + 2 * ROOM) * abs(bound)
        return replace(
            best,
            bound=max(bound, best.objective),
            proof=backend,
            status=Status.OPTIMAL if done else best.status,
        )


class _Program:
    """The PuLP problem of one call: the counts' part from the separable formulation, then masks."""

    def __init__(self, problem: PairwiseProblem) -> None:
        import pulp as library  # noqa: PLC0415 (slow to import)

        self._library = library
        self._problem = problem
        self.full = max(problem.objective(problem.dense()), 1e-12)
        shell = Problem(
            names=problem.names,
            values=tuple(np.zeros(n + 1) for n in problem.sizes),
            levels=problem.levels,
            costs=problem.costs,
            limits=problem.limits,
            together=problem.together,
        )
        self._counts: Formulation = formulate(shell)
        self.pulp: pulp.LpProblem = self._counts.program
        self._x = [
            self.pulp.add_variable(f"x{g}", 0, 1, library.LpBinary)
            for g in range(problem.firsts[-1])
        ]
        self._tie_counts()
        for join in problem.joins:
            self._join(join)
        self._maximise()

    def _tie_counts(self) -> None:
        """Sum of the binaries of a hyperedge = its count."""
        firsts = self._problem.firsts
        for e, (level, steps) in enumerate(
            zip(self._problem.levels, self._counts.steps, strict=True)
        ):
            row = [(x, 1.0) for x in self._x[firsts[e] : firsts[e + 1]]]
            jumps = np.diff(level).tolist()
            row += [(y, -float(jump)) for y, jump in zip(steps, jumps, strict=True)]
            self._row(row, 0, float(level[0]))

    def _join(self, join: Join) -> None:
        parts = [part.tolist() for part in join.parts]
        for p, result in enumerate(join.out.tolist()):
            own = [part[p] for part in parts]
            if KEPT not in own and result not in own:
                row = [(self._x[g], -1.0) for g in dict.fromkeys(own)]
                one = result == KEPT
                self._row(row if one else [*row, (self._x[result], 1.0)], -1, -1.0 if one else 0.0)
            for group, owned in zip(own, join.owned, strict=True):
                if owned and KEPT not in (group, result) and group != result:
                    self._row([(self._x[group], 1.0), (self._x[result], -1.0)], -1, 0.0)

    def _maximise(self) -> None:
        problem, scale = self._problem, SCALE / self.full
        objective = [
            (x, -scale * gain)
            for x, gain in zip(self._x, problem.linear.tolist(), strict=True)
            if gain
        ]
        for block in problem.blocks:
            first, other = problem.firsts[block.rows], problem.firsts[block.columns]
            for j, k in np.argwhere(block.values).tolist():
                both = self.pulp.add_variable(f"z{first + j}_{other + k}", 0, 1)
                for x in (self._x[first + j], self._x[other + k]):
                    self._row([(both, 1.0), (x, -1.0)], -1, 0.0)
                objective.append((both, -scale * float(block.values[j, k])))
        self.pulp.setObjective(self._library.LpAffineExpression(objective))

    def _row(self, row: list[tuple[pulp.LpVariable, float]], sense: int, side: float) -> None:
        library = self._library
        expression = library.LpAffineExpression(row)
        self.pulp += library.LpConstraint(expression, sense, rhs=side)

    def objective(self, minimised: float) -> float:
        """Objective (or bound) of the pairwise problem for one of the PuLP problem."""
        return self._problem.constant - minimised * self.full / SCALE

    def assignment(self, mask: Mask) -> dict[str, float]:
        """All integer variables at a mask, for a warm start."""
        values = {x.name: float(kept) for x, kept in zip(self._x, mask, strict=True)}
        return values | self._counts.assignment(self._problem.counts(mask))

    def mask(self, values: Mapping[str, float]) -> Mask | None:
        """The mask that an answer states; None without one."""
        found = np.array([values.get(x.name, float("nan")) for x in self._x])
        if not (np.minimum(abs(found), abs(found - 1)) <= INTEGRAL).all():
            return None
        return np.asarray(found > 0.5)

"""What can be said without a search: trivial answers, and the cheapest proof of a bound."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from prunec.compiler.errors import SolverError
from prunec.compiler.problem import Problem, Solution, Status
from prunec.passes.solvers import backends
from prunec.passes.solvers.backends import Request, Verdict
from prunec.passes.solvers.formulation import formulate
from prunec.passes.solvers.lagrange import relax

logger = logging.getLogger(__name__)

GAP = 1e-3  # a bound within this of the answer is not tightened any further
TOLERANCE = 1e-6  # relative; bounds come from floating-point back ends


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper bound of the objective with who proved it; value None: none was proven.

    counts: a feasible choice met on the way, if any. infeasible: proven that there is none.
    """

    value: float | None = None
    proof: str = ""
    prices: Mapping[str, float] = field(default_factory=dict)
    counts: tuple[int, ...] = ()
    infeasible: bool = False


def settled(problem: Problem, solver: str) -> Solution | None:
    """The answer where the dense choice is feasible, or the cheapest one is not."""
    dense, smallest = problem.dense(), problem.smallest()
    if problem.feasible(dense):
        value = problem.objective(dense)
        free = {x.resource: 0.0 for x in problem.limits}
        return Solution(dense, value, value, Status.OPTIMAL, solver, "dense", free)
    only = all(len(level) == 1 for level in problem.levels)
    cheapest_is_known = only or problem.monotone or not problem.allowed(smallest)
    if cheapest_is_known and not problem.feasible(smallest):
        return Solution((), 0.0, None, Status.INFEASIBLE, solver)
    return None


def bound_of(problem: Problem, counts: tuple[int, ...], time_limit: float) -> Bound:
    """Prove a bound: by the Lagrangian relaxation, else by linear programming.

    counts: a feasible choice, or (). A back end that fails is logged and proves nothing.
    """
    deadline = time.monotonic() + time_limit
    relaxed = relax(problem, counts or None, GAP, time_limit)
    if relaxed is not None:
        infeasible = relaxed.bound == float("-inf")
        found = Bound(relaxed.bound, "lagrangian", relaxed.prices, relaxed.counts, infeasible)
    else:
        try:
            found = _by_programming(problem, deadline - time.monotonic())
        except SolverError as error:
            logger.warning("%s; no bound is proven", error)
            return Bound()
    if counts and found.value is not None:
        known = problem.objective(counts)
        if found.value < known - TOLERANCE * abs(known):
            logger.warning("%s bound %.6g is below the answer", found.proof, found.value)
            return Bound()
    return Bound(None, found.proof, infeasible=True) if found.infeasible else found


def _by_programming(problem: Problem, time_limit: float) -> Bound:
    if time_limit <= 0:
        return Bound()
    backend = backends.choose("auto")
    form = formulate(problem, ordered=False)
    answer = backends.run(backend, form.program, Request(False, 0.0, time_limit, 1))
    if answer.verdict is not Verdict.FINISHED or answer.bound is None:
        return Bound()
    return Bound(form.objective(answer.bound), relaxation_of(backend), form.prices(answer.duals))


def relaxation_of(backend: str) -> str:
    """How a bound by linear programming is called."""
    return f"lp relaxation ({backend})"

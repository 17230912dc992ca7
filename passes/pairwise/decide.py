"""From importance, limits and levels to a checked choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from prunec.compiler.errors import GapError, InfeasibleBudgetError, SolverError, UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.pairwise import PairwiseProblem, PairwiseSolution, PairwiseSolver
from prunec.compiler.problem import IntArray, Limit, Solver, Status
from prunec.compiler.spec import render
from prunec.passes.pairwise.auto import Auto
from prunec.passes.pairwise.greedy import Greedy
from prunec.passes.pairwise.importance import Importance
from prunec.passes.pairwise.lagrangian import Lagrangian
from prunec.passes.pairwise.milp import Milp
from prunec.passes.solvers.auto import Auto as SeparableAuto

AGREES = 1e-6  # relative: a solver's objective and ours, which sums in another order


def pose_pairs(
    graph: Hypergraph,
    importance: Importance,
    limits: tuple[Limit, ...],
    levels: tuple[IntArray, ...],
    together: tuple[tuple[int, ...], ...],
) -> PairwiseProblem:
    """The pairwise selection problem of a model."""
    return PairwiseProblem(
        names=tuple(edge.name for edge in graph.edges),
        linear=importance.linear,
        blocks=importance.blocks,
        levels=levels,
        costs={x.resource: graph.costs[x.resource] for x in limits},
        limits=limits,
        joins=graph.joins,
        together=together,
        constant=importance.constant,
    )


def pairwise_solver(solver: Solver | PairwiseSolver) -> PairwiseSolver:
    """The solver, where it is one of pairwise problems; auto is auto. Raises UsageError."""
    if isinstance(solver, SeparableAuto):
        return Auto()
    if isinstance(solver, Auto | Lagrangian | Milp | Greedy):
        return solver
    raise UsageError(
        f"solver {solver.name!r} does not know --objective pairwise; "
        "choose auto, lagrangian, milp or greedy of PAIRWISE_SOLVERS"
    )


def separable_solver(solver: Solver | PairwiseSolver) -> Solver:
    """The solver, where it is none of pairwise problems. Raises UsageError."""
    if isinstance(solver, Auto | Lagrangian | Milp | Greedy):
        raise UsageError(f"solver {render(solver)!r} is one of --objective pairwise")
    return cast(Solver, solver)


def solve_pairs(
    problem: PairwiseProblem, solver: PairwiseSolver, max_gap: float | None
) -> PairwiseSolution:
    """Run the solver and trust nothing it says: everything is checked here."""
    dense = problem.dense()
    if not problem.faults(dense):
        best = problem.objective(dense)
        return PairwiseSolution(dense, best, best, Status.OPTIMAL, "dense", "dense")
    solution = solver(problem, None)
    if solution.status is Status.INFEASIBLE:
        limit = problem.limits[0]
        whole = problem.costs[limit.resource](problem.sizes)
        raise InfeasibleBudgetError(limit.resource, limit.at_most, None, whole)
    if solution.status not in (Status.OPTIMAL, Status.FEASIBLE):
        raise SolverError(
            f"solver {solver.name} found no choice within the limits (status "
            f"{solution.status.value}); use a smaller --align or --min-keep, or a larger budget"
        )
    faults = problem.faults(solution.mask)
    value = problem.objective(solution.mask)
    if faults or abs(value - solution.objective) > AGREES * max(1.0, abs(value)):
        raise SolverError(f"solver {solver.name} returned a wrong choice: {_first(faults)}")
    if max_gap is not None and (solution.gap is None or solution.gap > max_gap):
        raise GapError(1.0 if solution.gap is None else solution.gap, max_gap)
    return solution


def _first(faults: Sequence[str]) -> str:
    return faults[0] if faults else "its objective is not what it says"


def whole_mask(solution: PairwiseSolution) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """(number_of_groups + 1,) mask; the last entry serves index KEPT."""
    return np.append(solution.mask, True)

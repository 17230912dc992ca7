"""Objectives and their solvers from text."""

from __future__ import annotations

from prunec.compiler.extensions import extended
from prunec.compiler.pairwise import PairwiseSolver
from prunec.compiler.problem import Solver
from prunec.compiler.spec import parse
from prunec.passes.pairwise import OBJECTIVES, PAIRWISE_SOLVERS, Objective, Pairwise
from prunec.passes.solvers import SOLVERS


def parse_objective(text: str) -> Objective:
    """``pairwise{normalise=sum}`` -> the objective. Raises UsageError."""
    return parse(text, OBJECTIVES, "objective")


def parse_solver(text: str, objective: Objective) -> Solver | PairwiseSolver:
    """A row of the table of solvers that this objective has. Raises UsageError."""
    if isinstance(objective, Pairwise):
        return parse(text, PAIRWISE_SOLVERS, "pairwise solver")
    made: Solver = parse(text, extended(SOLVERS, "prunec.solvers"), "solver")
    return made

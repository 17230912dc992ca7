"""The least that a resource can be brought to, where the lowest levels need not be the cheapest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prunec.compiler.problem import Problem
from prunec.passes.solvers.elimination import program_of


def least(problem: Problem, resource: str) -> int:
    """Cost of the cheapest choice that is known; proven cheapest where elimination is in reach
    and the resource has one row."""
    cost = problem.costs[resource]
    limit = next(x for x in problem.limits if x.resource == resource)
    program = program_of(replace(problem, limits=(limit,)))
    if program is None:
        return cost(problem.smallest())
    rows = len(cost.rows)
    _, _, counts = program.maximise(np.full(rows, 1.0 / rows), worth=0.0)
    return min(cost(counts), cost(problem.smallest()))

"""The optimum by trying every choice."""

from __future__ import annotations

import itertools

from prunec.compiler.problem import Problem


def optimum(problem: Problem) -> float | None:
    """Best objective within the limits; None if no choice is."""
    choices = itertools.product(*([int(n) for n in level] for level in problem.levels))
    return max((problem.objective(n) for n in choices if not problem.violated(n)), default=None)

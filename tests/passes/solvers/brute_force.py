"""The optimum by trying every choice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from prunec.compiler.problem import Problem


def optimum(problem: Problem) -> float | None:
    """Best objective of a feasible choice; None if there is none."""
    return max(map(problem.objective, feasible(problem)), default=None)


def feasible(problem: Problem) -> Iterator[tuple[int, ...]]:
    """Every choice that is within the limits and tears no set of `together`."""
    for counts in itertools.product(*(level.tolist() for level in problem.levels)):
        whole = all(len({counts[e] == 0 for e in own}) == 1 for own in problem.together)
        if whole and all(problem.costs[x.resource](counts) <= x.at_most for x in problem.limits):
            yield counts

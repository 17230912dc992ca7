"""The published greedy: from the smallest choice, add what brings most importance per cost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

from prunec.compiler.cost import Row
from prunec.compiler.errors import UsageError
from prunec.compiler.pairwise import Mask, PairwiseProblem, PairwiseSolution
from prunec.compiler.problem import FloatArray, Status
from prunec.passes.pairwise.ascent import Ascent
from prunec.passes.pairwise.bound import solution
from prunec.passes.pairwise.bundles import Addition, EdgeAdditions, StreamAdditions
from prunec.passes.pairwise.fill import fill
from prunec.passes.pairwise.smallest import load_smallest
from prunec.passes.pairwise.state import State


@dataclass(frozen=True, slots=True)
class Greedy:
    """Best importance per cost first, from the smallest choice; streams in bundles that stay valid.

    step: additions between two looks at all candidates; 1 is the published rule. bound: whether to
    prove one. Source: SkipFastCplexSolver of the discrete QCQP (AISTATS 2022), with marginals kept
    up to date, bundles for any joins, and a smallest choice that is checked against the limits.
    """

    name: ClassVar[str] = "greedy"
    step: int = 1
    bound: bool = True

    def __post_init__(self) -> None:
        if self.step < 1:
            raise UsageError("solver 'greedy': step must be at least 1")

    def __call__(self, problem: PairwiseProblem, start: Mask | None) -> PairwiseSolution:
        """Solve; `start` is not used: the greedy begins at the smallest choice."""
        ascent, state = Ascent(problem), State(problem)
        most = problem.objective(problem.dense())
        if not load_smallest(ascent, state):
            return PairwiseSolution(np.zeros(0, bool), 0.0, None, Status.NONE, self.name)
        prices = most / np.maximum(state.limits, 1.0)
        _grow(ascent, state, prices, self.step)
        fill(ascent, state, prices)
        return solution(problem, state.mask(), self.name, bound=self.bound)


def _grow(ascent: Ascent, state: State, prices: FloatArray, step: int) -> None:
    """Make the best additions, `step` at a time, until none fits."""
    sources = _sources(ascent)
    near = _near(ascent.problem)
    found = [source.best(state, prices, step) for source in sources]
    failed: list[list[dict[int, list[int]]]] = [[] for _ in sources]
    while True:
        every = [(-own.rank, k, n) for k, mine in enumerate(found) for n, own in enumerate(mine)]
        if not every:
            return
        moved: set[int] = set()
        missed: set[int] = set()
        for _, k, n in sorted(every)[:step]:
            addition = found[k][n]
            if _add(ascent, state, addition):
                moved |= addition.on.keys()
            else:
                missed.add(k)
                failed[k].append(addition.on)
        changed = {e for own in moved for e in near[own]}
        for k, source in enumerate(sources):
            if not changed.isdisjoint(source.edges):
                found[k], failed[k] = source.best(state, prices, step), []
            elif k in missed:  # what was found with more room left, or before others came
                again = source.best(state, prices, step)
                found[k] = [own for own in again if own.on not in failed[k]]


def _sources(ascent: Ascent) -> list[EdgeAdditions | StreamAdditions]:
    joined = {e for stream in ascent.streams for e in stream.edges}
    alone = [e for e, own in enumerate(ascent.problem.levels) if len(own) > 1 and e not in joined]
    out: list[EdgeAdditions | StreamAdditions] = [EdgeAdditions(ascent, e) for e in alone]
    return [*out, *(StreamAdditions(ascent, stream) for stream in ascent.streams)]


def _near(problem: PairwiseProblem) -> list[set[int]]:
    """Of every hyperedge those whose gains, costs or bundles change with it, itself among them."""
    near = [{e} for e in range(len(problem.sizes))]
    together = [(b.rows, b.columns) for b in problem.blocks] + list(problem.together)
    together += [own for row, _ in problem.rows for own in _met(row)]
    for own in together:
        for a, b in combinations(own, 2):
            near[a].add(b)
            near[b].add(a)
    return near


def _met(row: Row) -> list[tuple[int, ...]]:
    """The hyperedges of every term and table."""
    factors = [term.factors for term in row.terms] + [table.factors for table in row.tables]
    return sorted({tuple(sorted({e for f in own for e, _ in f.terms})) for own in factors})


def _add(ascent: Ascent, state: State, addition: Addition) -> bool:
    """Add, or leave the state as it is where that does not fit or help."""
    before, value = {e: state.x[e] for e in addition.on}, state.value()
    for e, places in addition.on.items():
        mask = before[e].copy()
        mask[places] = True
        state.change(e, mask)
    at_levels = all(state.counts[e] in ascent.levels(state, e) for e in before)
    if at_levels and state.fits() and state.value() > value:
        return True
    for e, mask in before.items():
        state.change(e, mask)
    return False

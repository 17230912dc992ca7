"""An upper bound on the objective: the best kept counts for proven most values, under prices.

For every block the most that it can hold at given counts of its two hyperedges is a table
(`pairs.most`); with the priced costs the sum of all tables is maximised over the counts exactly, by
eliminating hyperedges. Any prices >= 0 give a bound; the least one is looked for, and again in
parts of the space of counts (branch and bound).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

import numpy as np

from prunec.compiler.pairwise import Mask, PairwiseProblem, PairwiseSolution
from prunec.compiler.problem import FloatArray, Status
from prunec.passes.pairwise.elimination import Elimination
from prunec.passes.pairwise.relaxed import FORBIDDEN, Box, Relaxed

STEPS = 24  # prices tried, for one row
NODES = 60  # most boxes of counts that are cut in two
BRANCHED = 120  # such boxes times hyperedges: one price for all is near enough for deep models
TINY = 1e-300
TURNS = 3  # through the rows, where there are several
CLOSE = 1e-5  # relative; prices that are nearer than this are the same


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper bound, how it was proven, and what one more percent of each resource would buy."""

    value: float
    proof: str
    prices: Mapping[str, float] = field(default_factory=dict)


def solution(problem: PairwiseProblem, mask: Mask, name: str, *, bound: bool) -> PairwiseSolution:
    """A valid mask as the answer of solver `name`; bound: prove how good it is."""
    value = problem.objective(mask)
    if not bound:
        return PairwiseSolution(mask, value, None, Status.FEASIBLE, name)
    most = upper_bound(problem, value)
    return PairwiseSolution(
        mask, value, max(most.value, value), Status.FEASIBLE, name, most.proof, most.prices
    )


def upper_bound(problem: PairwiseProblem, value: float) -> Bound:
    """A bound on the objective of every valid choice; value: of a good one, where to look."""
    dense = problem.objective(problem.dense())
    if not problem.limits:
        return Bound(dense, "dense")
    relaxed = Relaxed(problem)
    root = min(
        (_least(relaxed, plan, relaxed.whole(), _unit(relaxed, value)) for plan in relaxed.plans),
        key=lambda found: found.bound,
    )
    bound = root.bound
    if relaxed.plans[0].exact:
        bound = _branched(relaxed, root, value)
    bought = _per_percent(problem, root.prices)
    return Bound(bound, "counts", bought) if bound < dense else Bound(dense, "dense", bought)


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """A box of kept counts with its least bound. cheap, dear: the bins at prices just too low to
    meet the limits and just high enough; None where there were none.
    """

    box: Box
    bound: float
    prices: FloatArray
    cheap: tuple[int, ...] | None
    dear: tuple[int, ...] | None

    def halves(self) -> tuple[Box, Box] | None:
        """The box cut where cheap and dear differ most; None where they don't."""
        if self.cheap is None or self.dear is None:
            return None
        apart = [abs(a - b) for a, b in zip(self.cheap, self.dear, strict=True)]
        e = int(np.argmax(apart))
        if not apart[e]:
            return None
        low, high = self.box[e]
        cut = (self.cheap[e] + self.dear[e] - 1) // 2
        return _with(self.box, e, (low, cut)), _with(self.box, e, (cut + 1, high))


def _with(box: Box, e: int, ends: tuple[int, int]) -> Box:
    return (*box[:e], ends, *box[e + 1 :])


def _unit(relaxed: Relaxed, value: float) -> FloatArray:
    return np.asarray(max(value, 1e-12) / np.maximum(relaxed.limits, 1.0))


def _branched(relaxed: Relaxed, root: _Node, value: float) -> float:
    """The bound of the worst of many boxes: prices of its own for each close most of the gap that
    one price for all leaves.
    """
    (plan,) = relaxed.plans
    number = count()
    heap = [(-root.bound, next(number), root)]
    for _ in range(min(NODES, BRANCHED // len(root.box))):
        negated, _, node = heap[0]
        halves = node.halves()
        if -negated <= value * (1 + CLOSE) or halves is None:
            break
        heappop(heap)
        for box in halves:
            part = _least(relaxed, plan, box, np.maximum(node.prices, TINY))
            if part.bound > FORBIDDEN / 2:
                bound = min(part.bound, node.bound)
                heappush(heap, (-bound, next(number), part))
        if not heap:
            return value
    return max(-heap[0][0], value)


def _least(relaxed: Relaxed, plan: Elimination, box: Box, start: FloatArray) -> _Node:
    """The least bound found, by bisection of the prices, one row after another from `start`."""
    prices, best = start.copy(), np.inf
    cheap = dear = None
    turns = 1 if len(start) == 1 else TURNS
    for r in [*range(len(start))] * turns:
        low, high, here = 0.0, np.inf, float(prices[r])
        for _ in range(STEPS):
            trial = prices.copy()
            trial[r] = here
            bound, slack, bins = relaxed.at(trial, plan, box)
            if bound < best:
                best, prices = bound, trial
            if (slack < 0).any():
                cheap = bins
            else:
                dear = bins
            if slack[r] < 0:  # too cheap
                low = here
                here = here * 1.5 if high == np.inf else (low + high) / 2
            else:
                high = here
                here = (low + high) / 2
            if high - low < CLOSE * high:
                break
    return _Node(box, float(best), prices, cheap, dear)


def _per_percent(problem: PairwiseProblem, prices: FloatArray) -> dict[str, float]:
    """Objective that one more percent of the dense cost buys, from the prices of the rows."""
    out: dict[str, float] = {}
    row = 0
    for limit in problem.limits:
        cost = problem.costs[limit.resource]
        rows = len(cost.rows)
        out[limit.resource] = float(prices[row : row + rows].sum()) * 0.01 * cost(problem.sizes)
        row += rows
    return out

"""The budget that trained gates must meet, and the price of a channel on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.cost import Cost, Polynomial
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.multipliers import multipliers_of
from prunec.compiler.problem import FloatArray, IntArray, Limit, Problem
from prunec.compiler.weights import edge_weights, exact
from prunec.passes.options import Options
from prunec.passes.pipeline import check_feasible, decide
from prunec.passes.pose import allowed_levels, posed_costs

LEAST = 1e-3  # of the mean weight: what a channel weighs that costs nothing


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """Limits, and what of each hyperedge must stay.

    floors: (number of hyperedges,) channels that stay at least. multipliers: (number of
    hyperedges,) how many times as dear as its cost says a channel counts. options: how the solver
    chooses, None for nobody.
    """

    graph: Hypergraph
    limits: tuple[Limit, ...]
    floors: IntArray
    multipliers: FloatArray
    options: Options | None = None

    def reached(self, counts: Sequence[int]) -> dict[str, float]:
        """Cost over limit by resource; 1 where a budget is just met."""
        return {x.resource: value(self.graph, x, counts) / x.at_most for x in self.limits}

    def within(self, counts: Sequence[int], progress: float = 1.0) -> bool:
        """Whether every cost is where it should be by now.

        progress: 0 at the dense model, 1 at the limits, on a straight line between.
        """
        dense = self.graph.dense()
        return all(
            value(self.graph, x, counts)
            <= x.at_most + (1 - progress) * max(0.0, value(self.graph, x, dense) - x.at_most)
            for x in self.limits
        )

    def weights(self, counts: Sequence[int]) -> FloatArray:
        """(number of hyperedges,) what one channel of each brings, as a share of what must go.

        The published weight (Gator, ICANN 2021, section 3) for each limit, over the part of the
        dense cost that is above the limit, with multipliers; never 0.
        """
        total = np.zeros(len(self.graph.edges))
        dense = self.graph.dense()
        for limit in self.limits:
            above = value(self.graph, limit, dense) - limit.at_most
            if above > 0:
                total += channel_weights(self.graph.costs[limit.resource], counts, above)
        weights = total * self.multipliers
        mean = float(weights.mean())
        return np.maximum(weights, LEAST * mean) if mean > 0 else np.ones_like(weights)


def goal_of(graph: Hypergraph, limits: tuple[Limit, ...], options: Options) -> Goal:
    """What is aimed at under these options. Raises InfeasibleBudgetError, UsageError."""
    levels, together = allowed_levels(graph, options)
    shell = Problem(
        names=tuple(e.name for e in graph.edges),
        values=tuple(np.zeros(e.size + 1) for e in graph.edges),
        levels=levels,
        costs=posed_costs(graph, limits, together),
        limits=limits,
        together=together,
    )
    check_feasible(shell, graph)
    floors = np.array([min((n for n in own if n), default=0) for own in levels], np.int64)
    return Goal(graph, limits, floors, multipliers_of(graph, options.multipliers), options)


def chosen(goal: Goal, scores: FloatArray) -> NDArray[np.bool_]:
    """(number_of_groups,) what the solver keeps by these scores: within the budget, aligned.

    Raises SolverError, GapError.
    """
    assert goal.options is not None
    return decide(goal.graph, scores, goal.limits, goal.options).mask[:-1]


def value(graph: Hypergraph, limit: Limit, counts: Sequence[int]) -> float:
    """A cost without rounding, where it has none."""
    cost = graph.costs[limit.resource]
    return exact(cost, counts) if isinstance(cost, Polynomial) else float(cost(counts))


def channel_weights(cost: Cost, counts: Sequence[int], total: float) -> FloatArray:
    """(number of hyperedges,) share of `total` that a channel of each brings at these counts.

    The derivative where a cost has one; else, of tables and peaks, the mean over the channels that
    are left.
    """
    if isinstance(cost, Polynomial):
        return edge_weights(cost, counts, total)
    left = cost(counts) - np.array(cost.without_each(counts), float)
    return np.asarray(np.maximum(left, 0) / np.maximum(np.array(counts, float), 1) / total)

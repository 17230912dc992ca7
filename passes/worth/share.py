"""A hyperedge is worth the share of the limited costs that runs through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.cost import Peak
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray, Limit


@dataclass(frozen=True, slots=True)
class Share:
    """A hyperedge is worth what it costs, so that differences within it decide.

    Were all worth the same, the streams of residual networks, which cost most, would be closed.
    """

    name: ClassVar[str] = "share"
    rounds: ClassVar[int] = 0

    def __call__(
        self,
        graph: Hypergraph,
        limits: tuple[Limit, ...],
        counts: Sequence[int],
        totals: FloatArray,
    ) -> FloatArray:
        """(number of hyperedges,) part of the limited costs that goes with it; sums to 1."""
        total = np.zeros(len(counts))
        for limit in limits:
            cost = graph.costs[limit.resource]
            full = cost(counts)
            if isinstance(cost, Peak):
                total += _in_moments(cost, limit, counts) / max(full, 1)
            else:
                total += (full - np.array(cost.without_each(counts), float)) / max(full, 1)
        if any(isinstance(graph.costs[x.resource], Peak) for x in limits) and total.any():
            # Worth nothing, what has no part in a peak would be closed without need.
            total[total <= 0] = total[total > 0].min()
        whole = total.sum()
        return total / whole if whole > 0 else np.full(len(counts), 1 / max(len(counts), 1))


def _in_moments(cost: Peak, limit: Limit, counts: Sequence[int]) -> FloatArray:
    """What goes with each hyperedge at the moments that exceed the limit, on average.

    Two equal peaks hide each other from a hyperedge that is in one of them alone.
    """
    over = [m for m in cost.moments if m(counts) > limit.at_most] or list(cost.moments)
    total = np.zeros(len(counts))
    for moment in over:
        for e, part in moment.parts(counts).items():
            total[e] += part / len(over)
    return total

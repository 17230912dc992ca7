"""The published local search for numbers of groups, for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from prunec.compiler.dial import Dial
from prunec.compiler.errors import InfeasibleBudgetError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import Limit
from prunec.passes.dials import dialled_costs, sizes_of
from prunec.passes.options import Options
from prunec.passes.regroup.offers import Offer, fixed_dials


@dataclass(frozen=True, slots=True)
class MaxCost:
    """MAX_COST, mended: from most groups, give up groups where most is kept in sum, within limits.

    relative: convolutions count by their kept shares, all the same; else by the sums of their
    scores. No channel leaves. Two faults of the published code are mended: what it maximised was
    what is lost, and it stopped only once a limit was exceeded. Source: Zhao and Luk, ICCV
    workshops 2019; SEEDS 2.1.7, 2.4.1 to 2.4.3.
    """

    name: ClassVar[str] = "max-cost"
    relative: bool = True

    def __call__(
        self,
        graph: Hypergraph,
        limits: tuple[Limit, ...],
        options: Options,
        offers: tuple[Offer, ...],
    ) -> tuple[Dial, ...]:
        """Dials without a choice. Raises InfeasibleBudgetError where most groups exceed a limit."""
        dials = [offer.dial(tuple(offer.kept), offer.kept) for offer in offers]
        scale = [1.0 if self.relative else offer.total for offer in offers]
        at = _descent(graph, limits, dials, scale)
        numbers = {dial.weight: dial.choices[k] for dial, k in zip(dials, at, strict=True)}
        return fixed_dials([offer.site for offer in offers], numbers)


def _descent(
    graph: Hypergraph, limits: tuple[Limit, ...], dials: Sequence[Dial], scale: Sequence[float]
) -> list[int]:
    """Position among the choices of each dial."""
    costs, at = dialled_costs(graph, dials), [0] * len(dials)

    def excess() -> list[Limit]:
        counts = (*graph.dense(), *(d.counts[k] for d, k in zip(dials, at, strict=True)))
        return [x for x in limits if costs[x.resource](counts) > x.at_most]

    if over := excess():
        counts = (*graph.dense(), *(d.counts[0] for d in dials))
        cost = costs[over[0].resource]
        raise InfeasibleBudgetError(
            over[0].resource, over[0].at_most, cost(counts), cost(sizes_of(graph, dials))
        )
    while True:
        best, gain = -1, -1.0
        for i, dial in enumerate(dials):
            if at[i] + 1 == len(dial.choices):
                continue
            won = scale[i] * (dial.values[at[i] + 1] - dial.values[at[i]])
            at[i] += 1
            if won > gain and not excess():
                best, gain = i, won
            at[i] -= 1
        if best < 0:
            return at
        at[best] += 1

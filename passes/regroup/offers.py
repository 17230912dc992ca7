"""What the convolutions of a model could become, and what each choice keeps and saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm

import numpy as np

from prunec.compiler.dial import Dial
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray, Limit
from prunec.passes.dials import LATENCY, dialled_costs, sizes_of
from prunec.passes.options import Options
from prunec.passes.regroup.shares import Shares
from prunec.passes.regroup.sites import Site


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """One convolution's weight with its choices.

    kept: number of groups, ascending from 1, -> share of the kernels' scores that its best blocks
    hold: 1 for 1, falling. total: sum of these scores.
    """

    site: Site
    kept: Mapping[int, float]
    total: float

    def dial(self, numbers: Sequence[int], values: Mapping[int, float]) -> Dial:
        """The dial over these of its numbers of groups; values: of each, falling."""
        whole, order = lcm(*numbers), sorted(numbers, reverse=True)
        return Dial(
            name=f"{self.site.weight}:groups",
            kind="groups",
            weight=self.site.weight,
            choices=tuple(order),
            counts=tuple(whole // g for g in order),
            whole=whole,
            values=tuple(values[g] for g in order),
            nodes=self.site.nodes,
        )


def offers_of(
    sites: Sequence[Site], shares: Shares, scores: Mapping[str, FloatArray]
) -> tuple[Offer, ...]:
    """The sites that have a choice. scores: weight -> (F, C), what each kernel is worth.

    A number of groups that keeps no more than a larger one is left out.
    """
    out = []
    for site in sites:
        own, most, better = shares[site.weight], 0.0, {}
        for groups in sorted(own, reverse=True):
            if groups == 1 or own[groups] > most:
                most = better[groups] = max(own[groups], most)
        if len(better) > 1:
            total = float(scores[site.weight].sum())
            out.append(Offer(site, dict(reversed(better.items())), total))
    return tuple(out)


def fixed_dials(sites: Sequence[Site], numbers: Mapping[str, int]) -> tuple[Dial, ...]:
    """Dials without a choice: the costs of these numbers of groups, and channels that suit them."""
    dials = []
    for site in sites:
        if (groups := numbers.get(site.weight, 1)) > 1:
            both = Offer(site, {}, 0.0).dial((1, groups), {1: 0.0, groups: 0.0})
            dials.append(
                replace(both, choices=both.choices[:1], counts=both.counts[:1], values=(0.0,))
            )
    return tuple(dials)


def cost_shares(
    graph: Hypergraph, limits: Sequence[Limit], dials: Sequence[Dial]
) -> tuple[FloatArray, float]:
    """(number of dials,) share of the limited costs that goes with each weight; that of all edges.

    The same measure as that of `Share`: what the cost loses without it, over the whole. What part
    of the latency is whose is not known by weight: flops stand for it.
    """
    sizes, first = sizes_of(graph, dials), len(graph.edges)
    costs, total = dialled_costs(graph, dials), np.zeros(len(sizes))
    for limit in limits:
        cost = costs["flops" if limit.resource == LATENCY else limit.resource]
        full, without = cost(sizes), np.array(cost.without_each(sizes), np.float64)
        total += (full - without) / max(full, 1)
    return total[first:], float(total[:first].sum())


def worths_of(
    graph: Hypergraph,
    limits: tuple[Limit, ...],
    options: Options,
    dials: Sequence[Dial],
    equal: bool,
) -> FloatArray:
    """(number of dials,) what each weight is worth as a whole, in the currency of `pose`.

    By their share of the limited costs, scaled as those of the hyperedges are by
    `Options.weighing`; equal: the same for all. 0 for those that save nothing.
    """
    shares, of_edges = cost_shares(graph, limits, dials)
    totals = np.ones(len(graph.edges))
    currency = float(options.weighing(graph, limits, graph.dense(), totals).sum())
    if equal:
        return np.where(shares > 0, currency / max(len(dials), 1), 0.0)
    return shares * currency / of_edges if of_edges > 0 else shares

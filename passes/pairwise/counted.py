"""What the joins of streams say of kept counts, for relaxations that forget the masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.hypergraph import KEPT
from prunec.compiler.pairwise import PairwiseProblem
from prunec.compiler.problem import IntArray

WIDEST_JOIN = 3  # hyperedges that an inequality of counts may add up

Grids = Mapping[int, IntArray]
Allowed = Callable[[Grids, Grids], NDArray[np.bool_]]


def joined_counts(problem: PairwiseProblem) -> dict[tuple[int, ...], Allowed]:
    """What the joins say of counts: scope (with repeats) -> whether bins can hold valid counts."""
    edge_of = np.repeat(np.arange(len(problem.sizes)), problem.sizes)
    sizes = problem.sizes
    out: dict[tuple[int, ...], Allowed] = {}
    for join in problem.joins:
        results = _whole(join.out, edge_of, sizes)
        sources = [_sources(part, join.out, edge_of, results) for part in join.parts]
        if results is not None and all(s is not None for s in sources):
            # With repeats: a hyperedge in two operands may give a channel through each.
            parts = sorted(e for s in sources for e in s or ())
            if results not in parts and len(set(parts)) <= WIDEST_JOIN:
                out[results, *parts] = _at_most_sum(results, parts)
        for part, owned in zip(join.parts, join.owned, strict=True):
            source = _whole(part, edge_of, sizes)
            target = _sources(join.out, part, edge_of, source)
            if owned and source is not None and target is not None and len(target) == 1:
                (into,) = target
                if into != source:
                    out[source, into] = _at_most_sum(source, [into])
    return out


def _whole(groups: NDArray[np.int64], edge_of: IntArray, sizes: tuple[int, ...]) -> int | None:
    """The only hyperedge of these groups, if all of it is among them."""
    live = np.unique(groups[groups != KEPT])
    edges = np.unique(edge_of[live])
    if len(edges) == 1 and len(live) == sizes[edges[0]]:
        return int(edges[0])
    return None


def _sources(
    groups: NDArray[np.int64],
    beside: NDArray[np.int64],
    edge_of: IntArray,
    edge: int | None,
) -> set[int] | None:
    """Hyperedges of these groups where `beside` is of `edge`; None if a group counts twice."""
    if edge is None:
        return None
    mine = (beside != KEPT) & (edge_of[beside] == edge)
    own = groups[mine]
    if (own == KEPT).any() or len(np.unique(own)) < len(own):
        return None
    return {int(e) for e in np.unique(edge_of[own])}


def _at_most_sum(small: int, large: list[int]) -> Allowed:
    def allowed(low: Grids, high: Grids) -> NDArray[np.bool_]:
        return np.asarray(low[small] <= sum(high[e] for e in large))

    return allowed

"""One order of the channels that puts the blocks of most grouped convolutions side by side.

A grouped convolution reads block b of its inputs and writes block b of its outputs. Each side of
each convolution is a demand on the order of the hyperedges that its axis consists of: the contents
of a block stand where the block stands. Demands on one hyperedge agree where their blocks are
equal or nested; what is left over needs a Gather.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.partition import Partition
from prunec.passes.regroup.fit import Demand, Fit
from prunec.passes.regroup.permute import Order, movable
from prunec.passes.regroup.sites import Site

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """order: of the channel groups. numbers: weight -> (G,) which block of the convolution each
    group of its partition becomes. missed: elements that Gathers move.
    """

    order: Order
    numbers: Mapping[str, IntArray]
    missed: int


def fold(graph: Hypergraph, sites: Sequence[Site], partitions: Mapping[str, Partition]) -> Folded:
    """The order that leaves least to gather, of four ways to find one; deterministic.

    With the blocks numbered as they are; spreading from what is known, in two ways; the dearest
    first. graph: coupled with `Freedom.residual`, which is exact for permuting.
    """
    demands = demands_of(graph, sites, partitions)
    by_cost = _costs(demands)
    dear = sorted(range(len(demands)), key=lambda k: (-by_cost[k], demands[k].count, k))
    ways: tuple[Callable[[], Fit], ...] = (
        lambda: _in_turn(graph, demands, dear, numbered=True),
        lambda: _spreading(graph, demands, by_cost, coarse_first=True),
        lambda: _spreading(graph, demands, by_cost, coarse_first=False),
        lambda: _dearest(graph, demands, dear),
    )
    best: Fit | None = None
    for way in ways:
        found = way()
        if best is None or found.missed < best.missed:
            best = found
        if not best.missed:
            break
    assert best is not None
    return Folded(best.order(), best.numbers, best.missed)


def demands_of(
    graph: Hypergraph, sites: Sequence[Site], partitions: Mapping[str, Partition]
) -> list[Demand]:
    """Both sides of every site that has a partition in more than one block."""
    free = np.append(movable(graph)[graph.edge_of_group()], False)  # KEPT is the last
    out = []
    for site in sites:
        own = partitions.get(site.weight)
        if own is None or own.groups == 1:
            continue
        for side, groups, blocks, each in (
            ("inputs", site.inputs, own.inputs, site.reads),
            ("outputs", site.outputs, own.outputs, site.writes),
        ):
            still = np.where(free[groups], groups, KEPT)
            array = np.asarray(blocks, np.int64)
            out.append(Demand(site.weight, side, still, array, own.groups, each * len(array)))
    return out


def _costs(demands: Sequence[Demand]) -> list[int]:
    """What each demand and those that ask for the same would cost."""
    keys = [(d.groups.tobytes(), _canonical(d.blocks).tobytes()) for d in demands]
    total: dict[tuple[bytes, bytes], int] = defaultdict(int)
    for key, demand in zip(keys, demands, strict=True):
        total[key] += demand.cost
    return [total[key] for key in keys]


def _canonical(blocks: IntArray) -> IntArray:
    """The same blocks, numbered by first appearance."""
    _, first, own = np.unique(blocks, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[own]


def _in_turn(
    graph: Hypergraph, demands: Sequence[Demand], turn: Sequence[int], numbered: bool = False
) -> Fit:
    """Meet the demands in turn where that is possible."""
    fit = Fit(graph)
    for k in turn:
        if not fit.meet(demands[k], demands[k ^ 1], numbered):
            fit.missed += demands[k].cost
    return fit


def _spreading(
    graph: Hypergraph, demands: Sequence[Demand], by_cost: Sequence[int], *, coarse_first: bool
) -> Fit:
    """Meet demands whose blocks are numbered by those before, and choose numbers only between.

    coarse_first: before all finer ones, so that nested blocks agree; else only among those where
    as little is known. Axes that consist of most hyperedges begin, as they allow least.
    """
    fit = Fit(graph)
    edge_of = graph.edge_of_group()
    edges = [np.unique(edge_of[d.groups[d.groups != KEPT]]) for d in demands]
    touched = np.zeros(len(graph.edges), bool)
    left = list(range(len(demands)))

    def turn(k: int) -> tuple[int, ...]:
        own = demands[k]
        new = own.weight not in fit.numbers, not touched[edges[k]].any()
        place = (own.count, *new) if coarse_first else (*new, own.count)
        return *map(int, place), -len(edges[k]), -by_cost[k], k

    while left:
        k = min(left, key=turn)
        left.remove(k)
        if fit.meet(demands[k], demands[k ^ 1]):
            touched[edges[k]] = True
        else:
            fit.missed += demands[k].cost
    return fit


def _dearest(graph: Hypergraph, demands: Sequence[Demand], turn: Sequence[int]) -> Fit:
    """Meet the dearest first; a coarser one that fails is tried again before the finer ones."""
    fit, met, finest = Fit(graph), list[int](), 0
    missed = 0
    for k in turn:
        if fit.meet(demands[k], demands[k ^ 1]):
            met.append(k)
            finest = max(finest, demands[k].count)
            continue
        if demands[k].count < finest:
            again = sorted([*met, k], key=lambda j: (demands[j].count, j))
            other = _in_turn(graph, demands, again)
            if not other.missed:
                fit, met = other, [*met, k]
                continue
        missed += demands[k].cost
    fit.missed = missed
    return fit

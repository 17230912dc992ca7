"""Convolutions that read their inputs in an order of their own, which a Gather before them makes.

To the search of `joint.py` such inputs are one more hyperedge, which nothing else shares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prunec.compiler.hypergraph import Groups
from prunec.passes.regroup.assign import assigned
from prunec.passes.regroup.orders import Orders, Places, places_of
from prunec.passes.regroup.scored import Scored


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What is put in order. edges: (number_of_groups,) hyperedge of each channel group. movable:
    hyperedges that may be put in another order.
    """

    scored: tuple[Scored, ...]
    edges: Groups
    movable: tuple[int, ...]


def gain_of_own(orders: Orders, s: int) -> float:
    """What weight s would keep more with inputs in an order of their own, all else as it is."""
    gains, now = orders.sums[s][1], orders.ids[s][1]
    row = np.arange(len(now))
    return float((gains[row, assigned(gains, now)] - gains[row, now]).sum())


def with_own_inputs(problem: Problem, orders: Orders, s: int) -> tuple[Problem, Orders]:
    """The problem in which nothing else shares the inputs of weight s; orders are as they were."""
    weight = problem.scored[s]
    width, edge = weight.score.shape[1], int(max(problem.edges, default=-1)) + 1
    own = np.arange(len(problem.edges), len(problem.edges) + width)
    freed = tuple(replace(x, inputs=own) if k == s else x for k, x in enumerate(problem.scored))
    edges = np.concatenate([problem.edges, np.full(width, edge, np.int64)])
    posed = Problem(freed, edges, (*problem.movable, edge))
    before = {p.edge: (p, kinds) for p, kinds in zip(orders.places, orders.kinds, strict=True)}
    out = Orders(freed, places_of(freed, edges, posed.movable))
    for e, places in enumerate(out.places):
        if places.edge == edge:
            out.put(e, orders.ids[s][1].copy())  # its classes are the blocks
        else:
            out.put(e, _carried(*before[places.edge], places))
    return posed, out


def _carried(old: Places, kinds: Groups, new: Places) -> Groups:
    """(n,) new classes of the contents at the places that they have: fewer are told apart."""
    place = np.empty(len(kinds), np.int64)
    place[np.argsort(kinds, kind="stable")] = np.argsort(old.kind, kind="stable")
    return np.asarray(new.kind[place])

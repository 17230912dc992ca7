"""Another order of the channels: a relabelling of hyperedges that changes stored tensors only.

Operators move positions, not contents. Where channel group g's place is given to group t(g) of the
same hyperedge on *every* axis, each operator still computes the same, and only what is stored must
move: at each position that belonged to g it then holds what stood at the same occurrence of t(g).
Operators that depend on the order of an axis freeze it, so such an axis belongs to no hyperedge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.hypergraph import KEPT, Groups, Hypergraph
from prunec.passes.regroup.contents import alter
from prunec.passes.regroup.sites import stored_values

Order = NDArray[np.int64]  # (number_of_groups,) the group whose contents stand at a group's place
Array = NDArray[Any]


def natural_order(graph: Hypergraph) -> Order:
    """Every group at its own place."""
    return np.arange(graph.number_of_groups, dtype=np.int64)


def sources(groups: Groups, order: Order) -> NDArray[np.int64]:
    """(n,) the position whose contents stand at each position of an axis after relabelling.

    groups: (n,) channel group per position; KEPT stays. Several positions of a group keep their
    sequence.

    >>> sources(np.array([0, 1, 0, 1, KEPT]), np.array([1, 0])).tolist()
    [1, 0, 3, 2, 4]
    """
    out = np.arange(len(groups), dtype=np.int64)
    live = np.flatnonzero(groups != KEPT)
    by_group = live[np.argsort(groups[live], kind="stable")]
    own = groups[by_group]
    occurrence = np.arange(len(own)) - np.searchsorted(own, own)
    out[by_group] = by_group[np.searchsorted(own, order[own]) + occurrence]
    return out


def permute(model: ir.Model, graph: Hypergraph, order: Order) -> ir.Model:
    """A clone that computes the same with its channels in another order.

    order: only groups that `movable` allows may be elsewhere than at their own place, and within
    their hyperedge. Tensors are permuted when they are read. Sums run in another order, so floats
    may differ by rounding.
    """
    assert np.array_equal(graph.edge_of_group()[order], graph.edge_of_group()), "between hyperedges"
    copy = model.clone()
    moves: dict[str, dict[int, NDArray[np.int64]]] = defaultdict(dict)
    stored = stored_values(copy)
    for (name, axis), groups in graph.axes.items():
        if name in stored:
            take = sources(groups, order)
            if (take != np.arange(len(take))).any():
                moves[name][axis] = take
    for name, axes in moves.items():
        alter(stored[name], _mover(axes))
    return copy


def _mover(axes: Mapping[int, NDArray[np.int64]]) -> Callable[[Array], Array]:
    def move(array: Array) -> Array:
        for axis, take in axes.items():
            array = np.take(array, take, axis)
        return array

    return move


def movable(graph: Hypergraph) -> NDArray[np.bool_]:
    """(number of hyperedges,) whether the groups may change places among each other.

    They may where all are built alike: in every axis, and in every tie between labels, the k-th
    occurrence of one group is what the k-th occurrence of any other is. What leaves together need
    not be (x added to itself with pairs of channels crossed), so this is checked label by label.
    """
    trace = graph.trace
    sizes = np.array(graph.dense(), np.int64)
    alike = np.ones(len(sizes), bool)
    alike[list(graph.subsets)] = False
    slot = np.full(len(trace.groups), KEPT, np.int64)
    edge_of = graph.edge_of_group()
    count = 0
    for labels in _arrays(graph):
        groups = trace.groups[labels]
        live = groups != KEPT
        if not live.any():
            continue
        own, held = groups[live], labels[live]
        by_group = np.argsort(own, kind="stable")
        own, held = own[by_group], held[by_group]
        edges = edge_of[own]
        starts = np.flatnonzero(np.diff(edges, prepend=-1))
        for part, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(edges)], strict=True):
            e = int(edges[part])
            count = _columns(own[part:stop], held[part:stop], int(sizes[e]), slot, count)
            alike[e] &= count >= 0
            count = abs(count)
    return alike


def _columns(
    groups: Groups, labels: NDArray[np.int64], size: int, slot: NDArray[np.int64], count: int
) -> int:
    """Give the labels of one hyperedge on one axis their slots, the k-th of each group the same.

    Returns the number of slots so far, negative where labels of one column have different slots.
    """
    whole = len(groups) % size == 0
    many = len(groups) // size
    if not whole or (groups.reshape(size, -1) != groups[::many][:, None]).any():
        return -count - 1
    for column in labels.reshape(size, many).T:
        known = slot[column]
        if (known == KEPT).all():
            slot[column] = count
            count += 1
        elif (known != known[0]).any():
            return -count - 1
    return count


def _arrays(graph: Hypergraph) -> Iterable[NDArray[np.int64]]:
    """Every distinct array of labels: of the axes of values and of both sides of the ties."""
    seen: dict[int, Sequence[NDArray[np.int64]]] = {}
    axes = (labels for own in graph.trace.labels.values() for labels in own)
    sides = (side for tie in graph.trace.ties for side in (tie.left, tie.right))
    for labels in (*axes, *sides):
        if id(labels) not in seen and labels.any():
            seen[id(labels)] = (labels,)
            yield labels.reshape(-1)

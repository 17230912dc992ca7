"""Why a channel can or can't leave: the hyperedge of an axis, or the way to its barrier."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.labels import FROZEN
from prunec.compiler.spec import suggest


def explain(graph: Hypergraph, value: str, axis: int) -> list[str]:
    """Lines that say what an axis is coupled to, or what froze it.

    Raises UsageError for an unknown value or axis.
    """
    labels = graph.trace.labels.get(value)
    if labels is None:
        raise UsageError(f"no value {value!r} in the model{suggest(value, graph.trace.labels)}")
    if not 0 <= axis < len(labels):
        raise UsageError(f"{value} has {len(labels)} axes; there is no axis {axis}")
    own = labels[axis]
    lines = [f"{value}:{axis} has {len(own)} channels"]
    groups = graph.axes.get((value, axis), np.full(len(own), KEPT))
    for edge in graph.edges:
        here = (groups >= edge.first) & (groups < edge.first + edge.size)
        if here.any():
            lines.append(
                f"{int(here.sum())} of them belong to hyperedge {edge.name}: "
                f"{edge.size} channel groups over {len(edge.members)} axes"
            )
            for m in edge.members:
                times = f" x{m.multiplicity}" if m.multiplicity > 1 else ""
                lines.append(f"    {m.value}:{m.axis}{times}{' (weight)' if m.is_weight else ''}")
    stuck = np.flatnonzero(groups == KEPT)
    if len(stuck):
        lines.append(f"{len(stuck)} of them can't be removed:")
        lines += [f"    {step}" for step in _barrier(graph, int(own[stuck[0]]))]
    return lines


def _barrier(graph: Hypergraph, label: int) -> list[str]:
    """Shortest chain of ties from a label to FROZEN."""
    if label == FROZEN:
        return ["it is frozen where it is made: an input of the model, a unit or a spatial axis"]
    left, right, owner = _links(graph)
    order = np.argsort(left, kind="stable")
    left, right, owner = left[order], right[order], owner[order]
    came: dict[int, tuple[int, int]] = {label: (-1, -1)}
    queue = deque([label])
    while queue and FROZEN not in came:
        here = queue.popleft()
        span = slice(*np.searchsorted(left, [here, here + 1]))
        for there, tie in zip(right[span].tolist(), owner[span].tolist(), strict=True):
            if there not in came:
                came[there] = (here, tie)
                queue.append(there)
    if FROZEN not in came:
        return ["nothing that can be sliced makes it, or it is the only one of its kind"]
    steps: list[str] = []
    at = FROZEN
    while at != label:
        before, tie = came[at]
        _, _, node, reason = graph.trace.ties[tie]
        where = _name(graph, before)
        steps.append(f"{where} -- {reason or 'tied'}" + (f" [{node}]" if node else ""))
        at = before
    return steps[::-1]


def _links(
    graph: Hypergraph,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    ties = graph.trace.ties
    empty = [np.zeros(0, np.int64)]
    left = np.concatenate([t[0] for t in ties] or empty)
    right = np.concatenate([t[1] for t in ties] or empty)
    owner = np.repeat(np.arange(len(ties)), [len(t[0]) for t in ties])
    return (
        np.concatenate([left, right]),
        np.concatenate([right, left]),
        np.concatenate([owner, owner]),
    )


def _name(graph: Hypergraph, label: int) -> str:
    for value, own in graph.trace.labels.items():
        for axis, labels in enumerate(own):
            at = np.flatnonzero(labels == label)
            if len(at):
                return f"{value}:{axis}[{at[0]}]"
    return "an inner axis of a reshape"

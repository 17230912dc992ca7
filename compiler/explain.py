"""Why a channel can or can't leave: the hyperedge of an axis, or the way to its barrier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from prunec.compiler.barriers import REASONS, Barriers, nearest_barriers
from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.labels import FROZEN, Labels
from prunec.compiler.reasons import Reason
from prunec.compiler.spec import suggest


def explain(graph: Hypergraph, value: str, axis: int) -> list[str]:
    """Lines that say what an axis is coupled to, or what froze it.

    For channels that stay: for each reason the ties from the first such channel to its nearest
    barrier, then the reason and what would take it away. Raises UsageError for an unknown value
    or axis.
    """
    labels = graph.trace.labels.get(value)
    if labels is None:
        raise UsageError(f"no value {value!r} in the model{suggest(value, graph.trace.labels)}")
    if not 0 <= axis < len(labels):
        raise UsageError(f"{value} has {len(labels)} axes; there is no axis {axis}")
    own = labels[axis]
    groups = graph.trace.groups[own]
    lines = [f"{value}:{axis} has {len(own)} channels", *_edges(graph, groups)]
    stuck = own[groups == KEPT]
    if not len(stuck):
        return lines
    if not own.any():
        fixed = Reason.UNIT_AXIS if len(own) == 1 else Reason.FIXED_AXIS
        reason = graph.trace.fixed.get((value, axis), fixed)
        return [*lines, f"none of them can be removed: {_about(reason)}"]
    barriers = nearest_barriers(graph.trace)
    codes, first, count = np.unique(barriers.codes[stuck], return_index=True, return_counts=True)
    for k in np.argsort(first, kind="stable").tolist():
        lines.append(f"{count[k]} of them can't be removed:")
        lines += [f"    {step}" for step in _way(graph, barriers, int(stuck[first[k]]))]
        lines.append(f"    {_about(REASONS[codes[k]])}")
    return lines


def _edges(graph: Hypergraph, groups: Labels) -> Iterator[str]:
    present = np.unique(groups[groups != KEPT])
    for edge in graph.edges:
        low, high = np.searchsorted(present, (edge.first, edge.first + edge.size))
        if low == high:
            continue
        here = (groups >= edge.first) & (groups < edge.first + edge.size)
        yield (
            f"{int(here.sum())} of them belong to hyperedge {edge.name}: "
            f"{edge.size} channel groups over {len(edge.members)} axes"
        )
        for m in edge.members:
            times = f" x{m.multiplicity}" if m.multiplicity > 1 else ""
            yield f"    {m.value}:{m.axis}{times}{' (weight)' if m.is_weight else ''}"
        yield from _closing(graph, graph.edges.index(edge))


def _closing(graph: Hypergraph, e: int) -> Iterator[str]:
    """Whether all of them may leave."""
    if e in graph.unclosed:
        yield f"    one of them stays, even with --min-keep 0: {graph.unclosed[e]}"
    for branch in graph.branches:
        if e in branch:
            others = [graph.edges[k].name for k in branch if k != e]
            beside = f", together with {', '.join(others)}" if others else ""
            yield f"    all may leave with --min-keep 0{beside}"


def _about(reason: Reason) -> str:
    return f"{reason.value}: {reason.meaning}; would free it: {reason.remedy}"


def _way(graph: Hypergraph, barriers: Barriers, label: int) -> list[str]:
    """Shortest chain of ties from a label to its barrier."""
    steps: list[tuple[int, int]] = []
    while label != FROZEN and barriers.before[label] >= 0:
        steps.append((label, int(barriers.ties[label])))
        label = int(barriers.before[label])
    names = _names(graph, [at for at, _ in steps])
    lines = []
    for at, tie in steps:
        link = graph.trace.ties[tie]
        where = f" [{link.node}]" if link.node else ""
        lines.append(f"{names.get(at, 'an inner axis')} -- {link.reason or 'tied'}{where}")
    return lines


def _names(graph: Hypergraph, wanted: Iterable[int]) -> dict[int, str]:
    """``value:axis[position]`` where each label is first seen; those of no value are missing."""
    axes = [(v, k, a) for v, own in graph.trace.labels.items() for k, a in enumerate(own)]
    if not axes:
        return {}
    every = np.concatenate([a for _, _, a in axes])
    ends = np.cumsum([len(a) for _, _, a in axes])
    at = np.flatnonzero(np.isin(every, np.array(list(wanted), np.int64)))
    labels, first = np.unique(every[at], return_index=True)
    names = {}
    for label, position in zip(labels.tolist(), at[first].tolist(), strict=True):
        number = int(np.searchsorted(ends, position, side="right"))
        value, axis, array = axes[number]
        names[label] = f"{value}:{axis}[{position - int(ends[number]) + len(array)}]"
    return names

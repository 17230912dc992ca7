"""How much of a model can be pruned, and what holds the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from prunec.compiler.barriers import NONE, REASONS, Barriers, nearest_barriers
from prunec.compiler.cost import Linear, frozen_part
from prunec.compiler.costs import COSTS
from prunec.compiler.costs.ledger import Ledger, StoredTensor
from prunec.compiler.hypergraph import Axis, Counted, Hypergraph
from prunec.compiler.labels import Labels
from prunec.compiler.reasons import Reason

SCALAR = np.zeros(1, np.int64)  # what has no axis has one element, as an axis of size 1


@dataclass(frozen=True, slots=True)
class Covered:
    """One resource.

    dense: base units. prunable: the share of it that disappears with all removable channels: its
    cost runs through at least one of them. smallest: the ratio that is left when one channel group
    of each hyperedge stays, or the fewest positions of a kernel that can stand alone. barriers:
    reason -> share of dense that it holds, largest first; they sum to ``1 - prunable``.
    """

    dense: int
    prunable: float
    smallest: float
    barriers: Mapping[Reason, float]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Every resource; examples: the weight axis at which each reason holds most."""

    resources: Mapping[str, Covered]
    examples: Mapping[Reason, Axis]


def coverage(graph: Hypergraph) -> Coverage:
    """What can leave, and for what can't the barriers by reason.

    The cost of a product or of a stored tensor is frozen as far as all of its axes are: it is the
    product of their frozen sizes. It is split evenly over the axes that could free it: those that
    its own weight makes (the output channels); without such, those that any weight makes; without
    those, all that are longer than 1. Within an axis each frozen channel has the same part, which
    goes to the reason of its nearest barrier (`nearest_barriers`). Near-linear in the size of the
    graph.
    """
    dense = graph.dense()
    least = [len(graph.subsets[e][0]) if e in graph.subsets else 1 for e in range(len(dense))]
    held = _Held(graph)
    held.collect()
    resources = {}
    for name, cost in graph.costs.items():
        total = cost(dense)
        parts = sorted(held.parts.get(name, {}).items(), key=lambda item: -item[1])
        resources[name] = Covered(
            dense=total,
            prunable=(total - frozen_part(cost, len(dense))) / total if total else 0.0,
            smallest=cost(least) / total if total else 1.0,
            barriers=MappingProxyType({r: part / total for r, part in parts if total}),
        )
    examples = {reason: axis for reason, (_, axis) in held.examples.items()}
    return Coverage(MappingProxyType(resources), MappingProxyType(examples))


@dataclass(slots=True)
class _Held:
    """State of one count; lives inside `coverage`."""

    graph: Hypergraph
    parts: dict[str, dict[Reason, float]] = field(default_factory=dict)
    examples: dict[Reason, tuple[float, Axis]] = field(default_factory=dict)
    barriers: Barriers = field(init=False)
    names: dict[int, Axis] = field(init=False)
    fixed: dict[int, Reason] = field(init=False)
    split: dict[int, dict[Reason, float]] = field(init=False)

    def __post_init__(self) -> None:
        labels = self.graph.trace.labels
        self.barriers = nearest_barriers(self.graph.trace)
        stored = [
            (w.value, k, a) for w in self.graph.weights for k, a in enumerate(labels[w.value])
        ]
        self.names = {id(a): (value, k) for value, k, a in reversed(stored)}
        self.fixed = {id(labels[v][k]): why for (v, k), why in self.graph.trace.fixed.items()}
        self.split = {}

    def collect(self) -> None:
        """Add up what every item of the ledger holds."""
        dense = {name: cost(self.graph.dense()) for name, cost in self.graph.costs.items()}
        for ledger, item in _frozen_items(self.graph):
            # Term by term: a polynomial rounds fractions of bytes up.
            costs = {
                name: sum(term(()) for row in count(ledger).rows for term in row.terms)
                for name, count in COSTS.items()
            }
            shares = {name: c / dense[name] for name, c in costs.items() if c and dense.get(name)}
            if not shares:
                continue
            axes = self._responsible(item)
            for axis in axes:
                for reason, part in self._reasons(axis).items():
                    for name in shares:
                        own = self.parts.setdefault(name, {})
                        own[reason] = own.get(reason, 0.0) + costs[name] * part / len(axes)
                    self._example(reason, max(shares.values()) * part, axis)

    def _responsible(self, item: Counted) -> list[Labels]:
        """The axes that could free an item."""
        made = [a for a, own in zip(item.axes, item.made, strict=True) if own]
        return (
            made
            or [a for a in item.axes if a.all() and len(a)]
            or [a for a in item.axes if len(a) > 1]
            or list(item.axes)
            or [SCALAR]
        )

    def _reasons(self, axis: Labels) -> dict[Reason, float]:
        """What holds the frozen channels of an axis: shares that sum to 1."""
        if id(axis) not in self.split:
            codes = self.barriers.codes[axis]
            codes = codes[codes != NONE]
            if not axis.any():
                why = Reason.UNIT_AXIS if len(axis) == 1 else Reason.FIXED_AXIS
                self.split[id(axis)] = {self.fixed.get(id(axis), why): 1.0}
            else:
                count = np.bincount(codes, minlength=len(REASONS))
                self.split[id(axis)] = {
                    REASONS[code]: int(count[code]) / len(codes) for code in np.flatnonzero(count)
                }
        return self.split[id(axis)]

    def _example(self, reason: Reason, share: float, axis: Labels) -> None:
        name = self.names.get(id(axis))
        if name is not None and share > self.examples.get(reason, (0.0, name))[0]:
            self.examples[reason] = (share, name)


def _frozen_items(graph: Hypergraph) -> Iterator[tuple[Ledger, Counted]]:
    """What is left of each item without any removable channel, as a ledger of its own."""
    trace = graph.trace
    for (scale, axes), item in zip(
        trace.ledger.multiplications, trace.multiplications, strict=True
    ):
        if all(axis.constant for axis in axes):
            yield Ledger(((scale, _kept(axes)),), ()), item
    for tensor, item in zip(trace.ledger.parameters, trace.parameters, strict=True):
        if all(axis.constant for axis in tensor.shape):
            yield Ledger((), (replace(tensor, shape=_kept(tensor.shape)),)), item
    ledger, left = trace.ledger, {}
    for b, tensor in enumerate(ledger.buffers):
        if all(axis.constant for axis in tensor.shape):
            left[b] = replace(tensor, shape=_kept(tensor.shape))
    for b, times in ledger.computed:
        if b in left:
            yield Ledger((), (), buffers=(left[b],), computed=((0, times),)), trace.buffers[b]
    for b, count in max(ledger.moments, key=lambda m: _bytes(left, m), default=()):
        if b in left:
            yield Ledger((), (), buffers=(left[b],), moments=(((0, count),),)), trace.buffers[b]


def _bytes(left: Mapping[int, StoredTensor], moment: Sequence[tuple[int, int]]) -> float:
    """What a moment needs without any removable channel."""
    known = ((left[b], count) for b, count in moment if b in left)
    return sum(count * t.itemsize * prod(axis.constant for axis in t.shape) for t, count in known)


def _kept(axes: tuple[Linear, ...]) -> tuple[Linear, ...]:
    return tuple(Linear(axis.constant) for axis in axes)


def largest(barriers: Mapping[Reason, float], count: int) -> Iterator[tuple[Reason, float]]:
    """The largest barriers that hold at least a tenth of a percent."""
    shown = [(reason, share) for reason, share in barriers.items() if share >= 0.001]
    yield from shown[:count]


def to_dict(found: Coverage) -> dict[str, Any]:
    """JSON values."""
    return {
        name: {
            "dense": c.dense,
            "prunable_share": c.prunable,
            "smallest_ratio": c.smallest,
            "barriers": {reason.value: share for reason, share in c.barriers.items()},
        }
        for name, c in found.resources.items()
    }

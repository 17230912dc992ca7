"""From settled labels to hyperedges: components, their signatures, names and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.cost import Linear
from prunec.compiler.costs import COSTS
from prunec.compiler.costs.ledger import Ledger, StoredTensor
from prunec.compiler.diagnostics import Diagnostic, inexact_nodes
from prunec.compiler.hypergraph import (
    KEPT,
    Axis,
    Counted,
    CountPatch,
    Groups,
    Hyperedge,
    Hypergraph,
    IndexPatch,
    Member,
    Patch,
    PinPatch,
    Trace,
    WeightInfo,
    WindowPatch,
    linear,
)
from prunec.compiler.kinds import Kinds, kinds_of
from prunec.compiler.labels import FROZEN, AxisLabels, Coupler, Labels, Pin, Resize
from prunec.compiler.reasons import Reason
from prunec.compiler.schedule import Timeline

Hash = NDArray[np.uint64]


def assemble(
    coupler: Coupler,
    labels: Mapping[str, AxisLabels],
    weights: tuple[WeightInfo, ...],
    reads: tuple[Axis, ...],
    made: set[int],
    constants: frozenset[str],
    diagnostics: tuple[Diagnostic, ...],
    zeros: Mapping[str, str],
    held: Timeline,
) -> Hypergraph:
    """Hypergraph of a settled coupler.

    labels: every value's axes, in graph order. made: id() of the label arrays that contraction
    weights produce (the coupler keeps them alive). held: what a run computes and keeps.
    """
    arrays = _distinct(coupler, labels)
    component, count = _components(coupler, arrays)
    signature = _signatures([component[a] for a in arrays], count)
    axes = {(value, k): a for value, own in labels.items() for k, a in enumerate(own) if a.any()}
    named = _naming_order(axes, weights)
    edges, group_of = _edges(named, component, signature, count)
    table = np.append(group_of, KEPT)  # component -1 is never removed

    def groups(a: Labels) -> Groups:
        out = table[component[a]]
        out.flags.writeable = False
        return out

    by_array = {id(a): groups(a) for a in arrays}
    live = {axis: by_array[id(a)] for axis, a in axes.items() if (by_array[id(a)] != KEPT).any()}
    form = _forms(edges)
    members = _members(live, form, len(edges), weights)
    edges = tuple(
        Hyperedge(e.name, e.size, e.first, own) for e, own in zip(edges, members, strict=True)
    )

    def size(a: Labels) -> Linear:
        # Most axes of activations are spatial, and an array of its own each.
        return form(by_array[id(a)]) if id(a) in by_array else Linear(len(a))

    kinds = kinds_of(held, labels, size)
    ledger = _ledger(coupler, labels, weights, size, kinds)
    inexact = _inexact(coupler, groups)
    return Hypergraph(
        edges=edges,
        axes=live,
        costs={name: count(ledger) for name, count in COSTS.items()},
        patches=_patches(coupler, groups),
        weights=weights,
        reads=tuple(axis for axis in reads if axis in live),
        inexact=inexact,
        recurs=tuple(coupler.recurs),
        freedom=coupler.freedom,
        made=tuple(
            (w.value, k) for w in weights for k, a in enumerate(labels[w.value]) if id(a) in made
        ),
        diagnostics=(*diagnostics, *inexact_nodes(inexact)),
        zeros=zeros,
        held=held.sizes,
        order=held.order,
        trace=Trace(
            labels=labels,
            ties=coupler.ties,
            constants=constants,
            components=component,
            groups=table[component],
            ledger=ledger,
            multiplications=_multiplications(coupler),
            parameters=tuple(
                Counted(labels[w.value], tuple(id(a) in made for a in labels[w.value]))
                for w in weights
                if w.counted
            ),
            buffers=tuple(
                Counted(labels[name], (False,) * len(labels[name])) for name in kinds.examples
            ),
            fixed={
                (value, k): reason
                for value, own in labels.items()
                for k, a in enumerate(own)
                if (reason := coupler.origin(a)) is not None
            },
        ),
    )


def _multiplications(coupler: Coupler) -> tuple[Counted, ...]:
    """The axes of every product; made: the node that multiplies has the weight that makes it."""
    freed: dict[str, set[int]] = {}
    for labels, node in zip(coupler.freed, coupler.freed_by, strict=True):
        freed.setdefault(node, set()).add(id(labels))
    return tuple(
        Counted(axes, tuple(id(a) in freed.get(node, ()) for a in axes))
        for (_, axes), node in zip(coupler.products, coupler.products_of, strict=True)
    )


def _inexact(
    coupler: Coupler, groups: Callable[[Labels], Groups]
) -> Mapping[str, tuple[Reason, str]]:
    """Nodes whose result depends on channels that may leave, and why."""
    return {
        x.node: (x.reason, x.text) for x in coupler.inexacts if (groups(x.labels) != KEPT).any()
    }


def _distinct(coupler: Coupler, labels: Mapping[str, AxisLabels]) -> list[Labels]:
    """Every array that matters for cost or shape, once, in a stable order."""
    found: dict[int, Labels] = {}
    for own in labels.values():
        found.update((id(a), a) for a in own if a.any())
    for _, product in coupler.products:
        found.update((id(a), a) for a in product if a.any())
    for patch in coupler.patches:
        match patch:
            case Resize():
                found.update((id(a), a) for _, a in patch.elements)
            case Pin():
                found[id(patch.labels)] = patch.labels
            case _:
                found[id(patch.source)] = patch.source
    return list(found.values())


def _components(coupler: Coupler, arrays: Sequence[Labels]) -> tuple[NDArray[np.int64], int]:
    """Map label -> component (KEPT if it can't leave), numbered by first appearance."""
    total = coupler.size
    roots = coupler.find(np.arange(total, dtype=np.int64))
    removable = np.zeros(total, bool)
    for freed in (*coupler.freed, *(a for window in coupler.windows for a in window.labels)):
        removable[roots[freed]] = True
    removable[FROZEN] = False
    seen = np.concatenate([roots[a] for a in arrays]) if arrays else np.zeros(0, np.int64)
    seen = seen[removable[seen]]
    unique, first = np.unique(seen, return_index=True)
    number = np.full(total, KEPT, np.int64)
    number[unique[np.argsort(first, kind="stable")]] = np.arange(len(unique))
    return number[roots], len(unique)


def _signatures(arrays: Sequence[NDArray[np.int64]], count: int) -> NDArray[np.int64]:
    """(count,) class of each component: same class = same axes with the same multiplicities.

    The multiset of (array, multiplicity) pairs is hashed into 2 x 64 bits by a sum of mixed
    words, which is order-free; equal sums of different multisets are a 2^-128 event.
    """
    if not count:
        return np.zeros(0, np.int64)
    n = len(arrays)
    keys = np.concatenate(
        [a[a != KEPT] * n + i for i, a in enumerate(arrays)] or [np.zeros(0, np.int64)]
    )
    keys, multiplicity = np.unique(keys, return_counts=True)
    owner = keys // n
    word = (keys % n).astype(np.uint64) * np.uint64(2**32) + multiplicity.astype(np.uint64)
    sums = np.zeros((count, 2), np.uint64)
    for column, seed in enumerate((0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)):
        np.add.at(sums[:, column], owner, _mix(word + np.uint64(seed)))
    _, signature = np.unique(sums, axis=0, return_inverse=True)
    return signature.reshape(-1).astype(np.int64)


def _mix(x: Hash) -> Hash:
    """Finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _naming_order(axes: Mapping[Axis, Labels], weights: Sequence[WeightInfo]) -> dict[Axis, Labels]:
    """Axes in the order in which they may lend a hyperedge their name: parameters first."""
    order = [w.value for w in weights if w.counted]
    order += [w.value for w in weights if not w.counted]
    own: dict[str, dict[Axis, Labels]] = {}
    for axis, a in axes.items():
        own.setdefault(axis[0], {})[axis] = a
    named: dict[Axis, Labels] = {}
    for value in [*order, *own]:
        named.update(own.get(value, {}))
    return named


@dataclass(slots=True)
class _Draft:
    name: str
    components: list[int]


def _edges(
    named: Mapping[Axis, Labels],
    component: NDArray[np.int64],
    signature: NDArray[np.int64],
    count: int,
) -> tuple[tuple[Hyperedge, ...], Groups]:
    """Hyperedges without members, and component -> group index (KEPT for lone groups)."""
    drafts: dict[int, _Draft] = {}
    names: set[str] = set()
    placed = np.zeros(count, bool)
    for (value, k), a in named.items():
        own = component[a]
        unique, first = np.unique(own, return_index=True)
        keep = unique != KEPT
        unique, first = unique[keep], first[keep]
        new = ~placed[unique]
        if not new.any():
            continue
        order = np.argsort(first[new], kind="stable")
        for member, position in zip(unique[new][order], first[new][order], strict=True):
            kind = int(signature[member])
            if kind not in drafts:
                suffix = f"@{position}" if f"{value}:{k}" in names else ""
                drafts[kind] = _Draft(f"{value}:{k}{suffix}", [])
                names.add(drafts[kind].name)
            drafts[kind].components.append(int(member))
        placed[unique] = True
    group_of = np.full(count, KEPT, np.int64)
    edges, first_group = [], 0
    for draft in drafts.values():
        size = len(draft.components)
        if size < 2:  # the only channel of its kind must stay
            continue
        group_of[draft.components] = np.arange(first_group, first_group + size)
        edges.append(Hyperedge(draft.name, size, first_group, ()))
        first_group += size
    return tuple(edges), group_of


def _forms(edges: Sequence[Hyperedge]) -> Callable[[Groups], Linear]:
    """The size of an axis in kept counts, by its groups; each array of them is looked at once."""
    sizes = [e.size for e in edges]
    edge_of = np.repeat(np.arange(len(edges)), sizes)
    known: dict[int, Linear] = {}

    def form(groups: Groups) -> Linear:
        if id(groups) not in known:
            known[id(groups)] = linear(groups, edge_of, sizes)
        return known[id(groups)]

    return form


def _members(
    live: Mapping[Axis, Groups],
    form: Callable[[Groups], Linear],
    count: int,
    weights: Sequence[WeightInfo],
) -> list[tuple[Member, ...]]:
    stored = {w.value for w in weights}
    members: list[list[Member]] = [[] for _ in range(count)]
    for (value, axis), groups in live.items():
        for e, multiplicity in form(groups).terms:
            members[e].append(Member(value, axis, multiplicity, value in stored))
    return [tuple(m) for m in members]


def _ledger(
    coupler: Coupler,
    labels: Mapping[str, AxisLabels],
    weights: Sequence[WeightInfo],
    size: Callable[[Labels], Linear],
    kinds: Kinds,
) -> Ledger:
    """What the costs are counted from, as sizes of axes in kept counts."""
    return Ledger(
        multiplications=tuple(
            (scale, tuple(size(a) for a in axes)) for scale, axes in coupler.products
        ),
        parameters=tuple(
            StoredTensor(tuple(size(a) for a in labels[w.value]), w.itemsize, w.elements_per_item)
            for w in weights
            if w.counted
        ),
        multiplied_by=tuple(coupler.products_of),
        buffers=kinds.tensors,
        computed=kinds.computed,
        moments=kinds.moments,
    )


def _patches(coupler: Coupler, groups: Callable[[Labels], Groups]) -> tuple[Patch, ...]:
    out: list[Patch] = []
    for p in coupler.patches:
        if isinstance(p, Resize):
            counts = tuple((k, groups(a)) for k, a in p.elements)
            # Kept even where no channel leaves: a computed bound (half of what remains) may move.
            out.append(CountPatch(p.node, p.key, p.value, p.scalar, counts, p.drop))
            continue
        if isinstance(p, Pin):
            out.append(PinPatch(p.node, p.key, p.value, groups(p.labels)))
            continue
        source = groups(p.source)
        if (source != KEPT).any():
            picked = tuple(groups(a) for a in p.picked)
            out.append(IndexPatch(p.node, p.key, p.axis, source, p.indices, picked))
    for window in coupler.windows:
        axes = tuple(groups(a) for a in window.labels)
        if any((own != KEPT).any() for own in axes):
            out.append(WindowPatch(window.node, axes, window.pads, window.dilations))
    return tuple(out)

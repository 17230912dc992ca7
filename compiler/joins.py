"""Additions whose operands and result have channels of their own: `Freedom.decouple`.

Per position an addition reads what its operands carry and gives what its result has; a channel
that an operand lacks is zero there, one that the result lacks is forgotten. This generalises the
written and read channels (u and v) of a residual stream from (s, t) pairs to any tree of additions.
Source: "Optimal channel selection with discrete QCQP" (AISTATS 2022), structural constraints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.hypergraph import KEPT, Hypergraph, Join
from prunec.compiler.labels import FROZEN, AxisLabels, Coupler, Labels

SIZES = frozenset({"Shape", "Size"})
OF_ACTIVATIONS = frozenset({"activations", "memory"})
WHY_ABSENT = (
    "what a decoupled addition stores depends on which channels meet, not on how many; "
    "leave out --decouple, or budget another resource"
)

Mask = NDArray[np.bool_]
Marks = NDArray[np.bool_]  # (number of labels,) by representative


def settle_joins(c: Coupler) -> None:
    """Decide, in graph order, which positions of an addition are free; all other ties are known.

    Tied as in a coupled stream are positions at which an operand has a channel that no weight makes
    and nothing holds (the zeros of a padded shortcut: they carry nothing), and those at which no
    operand has one that a weight makes. At all others the result has a channel of its own.
    """
    made = np.zeros(c.size, bool)
    for labels in c.freed if c.joined else ():
        made[c.find(labels)] = True
    made[FROZEN] = False
    for join in c.joined:
        c.node = join.node
        roots = c.find(np.stack(join.parts))
        idle = ~made[roots] & (roots != FROZEN)
        tied = idle.any(0) | ~made[roots].any(0)
        touched = np.concatenate([join.out, *join.parts])
        known = touched[made[c.find(touched)]]
        for part in join.parts if tied.any() else ():
            c.tie(part[tied], join.out[tied], "element-wise", c.origin(part))
        made[c.find(known)] = True  # representatives have changed
        if not tied.all():
            c.free(join.out[~tied])
            made[c.find(join.out[~tied])] = True
        made[FROZEN] = False


def with_joins(c: Coupler, steps: Iterable[ir.Node], graph: Hypergraph) -> Hypergraph:
    """`graph` with a record of each addition that need not keep its operands' channels.

    steps: every node of the model, those of bodies too. Costs of activations are left out, and
    the order that is best for them: what an emitted join stores depends on which channels its
    operands have, not on how many.
    """
    if not c.joined:
        return graph
    steps = tuple(steps)
    read = _read(c, steps, graph.trace.labels, graph.trace.constants)
    joining = {join.node for join in c.joined}
    made = {node.name: node.outputs[0].name or "" for node in steps if node.name in joining}
    shared, groups = read | (_times_added(c) > 1), graph.trace.groups
    shared[FROZEN] = False
    found = []
    for join in c.joined:
        out, parts = groups[join.out], tuple(groups[part] for part in join.parts)
        if all(np.array_equal(part, out) for part in parts):
            continue
        # Where a part and the result are one channel, the readers of the result are no others.
        apart = [c.find(part[group != out]) for part, group in zip(join.parts, parts, strict=True)]
        owned = tuple(not shared[roots].any() for roots in apart)
        whole = prod(len(axis) for axis in graph.trace.labels[made[join.node]])
        found.append(Join(join.node, out, parts, owned, whole // len(out)))
    if not found:
        return graph
    costs = {name: cost for name, cost in graph.costs.items() if name not in OF_ACTIVATIONS}
    return replace(graph, joins=tuple(found), costs=costs, order=())


def _read(
    c: Coupler,
    steps: Iterable[ir.Node],
    labels: Mapping[str, AxisLabels],
    constants: frozenset[str],
) -> Marks:
    """Channels that a node takes in and does not hand on: it sums them, say.

    Additions hand on in their own way, and a shape is not what a channel holds.
    """
    marks = np.zeros(c.size, bool)
    joining = {join.node for join in c.joined}
    for node in steps:
        if node.name in joining or node.op_type in SIZES:
            continue
        ins = [v.name or "" for v in node.inputs if v is not None]
        taken = [a for name in ins if name not in constants for a in labels.get(name, ())]
        given = [a for v in node.outputs for a in labels.get(v.name or "", ())]
        handed = {id(a) for a in given}
        taken = [a for a in taken if id(a) not in handed and a.any()]
        if taken:
            out = np.zeros(c.size, bool)
            for a in given:
                out[c.find(a)] = True
            for a in taken:
                roots = c.find(a)
                marks[roots[~out[roots]]] = True
    return marks


def _times_added(c: Coupler) -> NDArray[np.int64]:
    """How many additions each channel is an operand of."""
    nodes: dict[str, list[Labels]] = {}
    for join in c.joined:
        nodes.setdefault(join.node, []).extend(join.parts)
    times = np.zeros(c.size, np.int64)
    for parts in nodes.values():
        times[np.unique(c.find(np.concatenate(parts)))] += 1
    return times


def broken_joins(graph: Hypergraph, mask: Mask) -> tuple[str, ...]:
    """Nodes at which a choice breaks what `Join` demands, in graph order.

    mask: (number_of_groups + 1,), as `Plan.mask` returns it.
    """
    return tuple(dict.fromkeys(j.node for j in graph.joins if not _holds(j, mask)))


def _holds(join: Join, mask: Mask) -> bool:
    out = mask[join.out]
    carried = np.any([mask[part] for part in join.parts], axis=0)
    if (out & ~carried).any():
        return False
    # What can never leave is forgotten where the result does without it.
    return not any(
        (mask[part] & ~out & (part != KEPT)).any()
        for part, owned in zip(join.parts, join.owned, strict=True)
        if owned
    )


def joins_hold(graph: Hypergraph, mask: Mask) -> bool:
    """Whether nothing is carried that nobody wrote, and nothing written that nobody reads."""
    return not broken_joins(graph, mask)

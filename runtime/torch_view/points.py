"""Where a gate acts on a channel group: at what its consumers read, once on every path."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from prunec.compiler.hypergraph import KEPT, Groups
from prunec.compiler.walk import nodes
from prunec.runtime.subject import Subject


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One axis of one input of one node.

    groups: (n,) channel group of each index, KEPT where no gate acts. shared: the input is a
    stored tensor, the same for all samples.
    """

    node: str
    position: int
    value: str
    axis: int
    groups: Groups
    shared: bool


def points_of(subject: Subject) -> tuple[Point, ...]:
    """All points at which zeroing a group is the same as `passes.gate.gate`, in graph order.

    These are the activation axes that a node sums over, operands of decoupled additions, and the
    weights through which a node reads what it makes inside itself. Element-wise operators,
    normalisations per channel and residual additions hand on what they read, so nothing is zeroed
    there: a product of gates along a chain would count a channel twice in a gradient. For the same
    reason, where a node sums the products of two activations over one axis, one of them is gated.
    Under `Freedom.residual`, nodes in `Hypergraph.inexact` read ungated values: gates do not tell
    how their statistics change.
    """
    graph = subject.graph
    named = {node.name or "": node for node in nodes(subject.model.graph)}
    wanted = [(*at, graph.axes.get((_input(named, *at[:2]), at[2]), None)) for at in graph.read_by]
    wanted += [(*at, graph.axes.get((_input(named, *at[:2]), at[2]), None)) for at in graph.recurs]
    wanted += [
        (join.node, k, _axis(subject, _input(named, join.node, k), part), part)
        for join in graph.joins
        for k, part in enumerate(join.parts)
    ]
    order = {name: k for k, name in enumerate(named)}
    wanted.sort(key=lambda at: (order.get(at[0], len(order)), at[1], at[2]))
    gated: dict[str, list[tuple[int, Groups]]] = defaultdict(list)
    points = []
    for node, position, axis, groups in wanted:
        value = _input(named, node, position)
        if groups is None or not _is_float(subject, value):
            continue
        earlier = [own for other, own in gated[node] if other != position]
        again = np.isin(groups, np.concatenate(earlier)) if earlier else np.zeros(len(groups), bool)
        left = np.where(again & ~_parts_of_a_join(subject, node), KEPT, groups)
        gated[node].append((position, groups[groups != KEPT]))
        if (left != KEPT).any():
            shared = value in graph.trace.constants
            points.append(Point(node, position, value, axis, left, shared))
    return tuple(points)


def _parts_of_a_join(subject: Subject, node: str) -> bool:
    """Whether the node adds, so that each of its operands must be zero by itself."""
    return any(join.node == node for join in subject.graph.joins)


def _input(named: dict[str, ir.Node], node: str, position: int) -> str:
    value = named[node].inputs[position] if node in named else None
    return "" if value is None else value.name or ""


def _axis(subject: Subject, value: str, groups: Groups) -> int:
    """The axis of `value` that has these groups; 0 where none of them can leave."""
    for axis in range(len(subject.facts.shapes[value])):
        own = subject.graph.axes.get((value, axis))
        if own is not None and np.array_equal(own, groups):
            return axis
    return 0


def _is_float(subject: Subject, value: str) -> bool:
    dtype = subject.facts.dtypes.get(value)
    if dtype is None or dtype.kind == "b":
        return False
    return ir.DataType.from_numpy(dtype).is_floating_point()

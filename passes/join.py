"""Emission of decoupled additions: every operand brought to the channels of the result.

Measured with tools/bench/joins.py (onnxruntime on a CPU, one thread, 16 to 512 channels, 56 to 7
pixels): zero channels at the ends are cheapest as one Pad, elsewhere as a Pad by one zero channel
that a Gather then picks; both beat Concat with zero blocks wherever there are more than two pieces
and ScatterElements everywhere (2 to 140 %). Adding onto a slice of the stream and concatenating
the rest is as fast as Pad, so it is not written; Gather of a forgotten rest is as fast as Slice.
Where one operand alone has each channel there is nothing to add: a Concat and a Gather put them in
order. All of it works at any size of the other axes, and the order of channels stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.walk import nodes
from prunec.passes.insert import free_name, home_of, names_in, new_initializer

PAD_INPUT_SINCE = 11  # opset in which the amounts of Pad became an input
# What a join costs, in the multiplications that run in the same time, and the channels that
# onnxruntime computes together. Of the table's cells with Gather they judge all right.
MACS_PER_NODE = 100_000
MACS_PER_ELEMENT = 7
BLOCK = 16

Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """How an operand of `have` channels gets those of the result.

    before, after: zero channels that a Pad puts around them. table: which of the channels then
    there a Gather picks, or None for all as they are.
    """

    before: int
    after: int
    table: Positions | None


def fit(have: Mask, want: Mask) -> Fit | None:
    """The cheapest way from one set of positions of an axis to another; None where they agree.

    >>> fit(np.array([True, True, False]), np.array([True, True, True]))
    Fit(before=0, after=1, table=None)
    >>> fit(np.array([True, False, True]), np.array([True, True, True]))
    Fit(before=0, after=1, table=array([0, 2, 1]))
    >>> fit(np.array([True, True, True]), np.array([True, False, True]))
    Fit(before=0, after=0, table=array([0, 2]))
    """
    if np.array_equal(have, want):
        return None
    there = np.flatnonzero(have[want])  # ranks, in the result, of what the operand carries
    missing = int(want.sum()) - len(there)
    lies_together = len(there) > 0 and int(there[-1]) - int(there[0]) + 1 == len(there)
    if lies_together and len(there) == have.sum():
        return Fit(int(there[0]), missing - int(there[0]), None)
    rank = np.cumsum(have) - 1
    zero = int(have.sum())  # behind the last channel
    return Fit(0, int(missing > 0), np.where(have, rank, zero)[want].astype(np.int64))


def side_by_side(haves: Sequence[Mask], want: Mask) -> Positions | None:
    """Where the operands' channels, one operand after the other, hold each of the result's.

    None unless exactly one operand carries each channel of the result: nothing is left to add. None
    also where the result has nothing of an operand: without a reader it would leave the graph, but
    its channels were counted.

    >>> first = np.array([True, False, True])
    >>> side_by_side([first, ~first], np.ones(3, bool))
    array([0, 2, 1])
    """
    carried = np.stack(haves)
    if (carried[:, want].sum(0) != 1).any() or not carried[:, want].any(1).all():
        return None
    first = np.cumsum([0, *carried.sum(1)[:-1]])
    place = first[:, None] + np.cumsum(carried, 1) - 1
    return place.T[want][carried.T[want]].astype(np.int64)


def slow_joins(graph: Hypergraph, mask: Mask) -> tuple[str, ...]:
    """Additions at which channels of their own cost more time than they save, by estimate.

    Compared with the same choice in which the operands and the result all have every channel that
    one of them has. Nodes, in graph order.
    """
    spent: dict[str, int] = {}
    equal: dict[str, Mask] = {}
    for join in graph.joins:
        cost = _work([mask[part] for part in join.parts], mask[join.out], join.span)
        spent[join.node] = spent.get(join.node, 0) + cost
        sides = (join.out, *join.parts)
        present = np.any([mask[side] for side in sides], axis=0)
        widened = equal.setdefault(join.node, mask.copy())
        for side in sides:
            widened[side[present]] = True
    flops, now = graph.costs["flops"], _in_blocks(graph, mask)
    return tuple(
        node
        for node, cost in spent.items()
        if cost > flops(_in_blocks(graph, equal[node])) - flops(now)
    )


def _work(haves: Sequence[Mask], want: Mask, span: int) -> int:
    """Multiplications that would take the time of what is emitted. span: elements per channel."""
    written: list[int] = []  # channels that each new node writes
    if side_by_side(haves, want) is not None:
        written = [int(np.sum(haves)), int(want.sum())]
    else:
        for have in haves:
            found = fit(have, want)
            if found is not None and found.before + found.after:
                written.append(int(have.sum()) + found.before + found.after)
            if found is not None and found.table is not None:
                written.append(len(found.table))
    return MACS_PER_NODE * len(written) + MACS_PER_ELEMENT * span * sum(written)


def _in_blocks(graph: Hypergraph, mask: Mask) -> list[int]:
    """Kept counts as onnxruntime computes them."""
    kept = (int(mask[e.first : e.first + e.size].sum()) for e in graph.edges)
    return [min(e.size, -(-n // BLOCK) * BLOCK) for n, e in zip(kept, graph.edges, strict=True)]


def fit_joins(graph: ir.Graph, facts: Facts, hypergraph: Hypergraph, mask: Mask) -> None:
    """Give the operands of every decoupled addition of a sliced graph the result's channels."""
    joining = {join.node for join in hypergraph.joins}
    if not joining:
        return
    fitter = _Fitter(graph, facts, hypergraph, mask)
    for node in nodes(graph):
        if node.name in joining:
            fitter.run(node)


class _Fitter:
    """State of one pass; lives inside `fit_joins`."""

    def __init__(self, graph: ir.Graph, facts: Facts, hypergraph: Hypergraph, mask: Mask) -> None:
        self.graph, self.facts, self.hypergraph, self.mask = graph, facts, hypergraph, mask
        self.taken = names_in(graph)

    def run(self, node: ir.Node) -> None:
        """Write one addition anew: without a sum where there is nothing to add, else fitted."""
        if not self._put_side_by_side(node):
            self._fit(node)

    def _put_side_by_side(self, node: ir.Node) -> bool:
        """Concat and Gather instead of an addition of channels of which one operand has each."""
        operands = [v for v in node.inputs if v is not None]
        out = node.outputs[0].name or ""
        shapes = {self.facts.shapes[v.name or ""] for v in (*operands, *node.outputs)}
        if node.op_type == "Sub" or len(shapes) > 1:
            return False
        kept = [[self._kept(v.name or "", k) for v in operands] for k in range(len(shapes.pop()))]
        wants = [self._kept(out, k) for k in range(len(kept))]
        differ = [
            k for k, want in enumerate(wants) if any((have != want).any() for have in kept[k])
        ]
        if len(differ) != 1:
            return False
        (axis,) = differ
        order = side_by_side(kept[axis], wants[axis])
        if order is None:
            return False
        self._replace(node, operands, axis, order, int(np.sum(kept[axis])))
        return True

    def _replace(
        self, node: ir.Node, parts: Sequence[ir.Value], axis: int, order: Positions, count: int
    ) -> None:
        """Let a Concat, mostly with a Gather behind it, take its place and its name."""
        at = [ir.AttrInt64("axis", axis)]
        new = [ir.Node("", "Concat", parts, at, num_outputs=1, name=node.name)]
        if len(order) != count or (order != np.arange(count)).any():
            whole = new[0].outputs[0]
            new[0].name = whole.name = free_name(f"{node.name}.parts", self.taken)
            whole.type, whole.shape = parts[0].type, _with_size(parts[0], axis, size=count)
            table = new_initializer(self.graph, self.taken, f"{node.name}.positions", order)
            new.append(ir.Node("", "Gather", [whole, table], at, num_outputs=1, name=node.name))
        old = node.outputs[0]
        ir.convenience.replace_nodes_and_values(
            home_of(node), node, [node], new, [old], [new[-1].outputs[0]]
        )

    def _fit(self, node: ir.Node) -> None:
        """Fit the operands, axis by axis; axes are aligned from the right."""
        out = node.outputs[0].name or ""
        size = self.facts.shapes[out]
        for position, operand in enumerate(node.inputs):
            assert operand is not None, (node.name, position)
            name, value = operand.name or "", operand
            own = self.facts.shapes[name]
            for axis, n in enumerate(own):
                result = axis + len(size) - len(own)
                if n == size[result]:  # else it stretches
                    found = fit(self._kept(name, axis), self._kept(out, result))
                    stem = f"{node.name}.{position}.{axis}"
                    value = self._fitted(value, axis, len(own), found, stem)
            if value is not operand:
                node.replace_input_with(position, value)

    def _kept(self, name: str, axis: int) -> Mask:
        groups = self.hypergraph.axes.get((name, axis))
        size = self.facts.shapes[name][axis]
        return np.ones(size, bool) if groups is None else self.mask[groups]

    def _fitted(
        self, value: ir.Value, axis: int, rank: int, found: Fit | None, stem: str
    ) -> ir.Value:
        """What `value` is once one of its axes has the channels that are wanted."""
        if found is not None and found.before + found.after:
            amounts = np.zeros((2, rank), np.int64)
            amounts[:, axis] = found.before, found.after
            shape = _with_size(value, axis, found.before + found.after)
            value = self._pad(value, amounts.reshape(-1), f"{stem}.zeros")
            value.shape = shape
        if found is not None and found.table is not None:
            table = new_initializer(self.graph, self.taken, f"{stem}.positions", found.table)
            attributes = [ir.AttrInt64("axis", axis)]
            shape = _with_size(value, axis, size=len(found.table))
            value = self._follow(value, "Gather", [table], attributes, f"{stem}.picked")
            value.shape = shape
        return value

    def _pad(self, value: ir.Value, amounts: Positions, name: str) -> ir.Value:
        if self.graph.opset_imports.get("", 1) < PAD_INPUT_SINCE:
            attributes = [ir.AttrInt64s("pads", amounts.tolist())]
            return self._follow(value, "Pad", [], attributes, name)
        table = new_initializer(self.graph, self.taken, f"{name}.amounts", amounts)
        return self._follow(value, "Pad", [table], [], name)

    def _follow(
        self,
        value: ir.Value,
        op: str,
        tables: Sequence[ir.Value],
        attributes: Sequence[ir.Attr],
        name: str,
    ) -> ir.Value:
        """The result of a new node behind whoever makes `value`.

        There, not before the addition: that may be inside of a function call that starts earlier.
        """
        node = ir.Node("", op, [value, *tables], attributes, num_outputs=1)
        new = node.outputs[0]
        node.name = new.name = free_name(name, self.taken)
        new.type = value.type
        maker = value.producer()
        if maker is None:
            self.graph.insert_before(self.graph[0], node)
        else:
            home_of(maker).insert_after(maker, node)
        return new


def _with_size(
    value: ir.Value, axis: int, more: int = 0, size: int | None = None
) -> ir.Shape | None:
    """The declared shape, if there is one, with another size, or so many more, along an axis."""
    if value.shape is None:
        return None
    dims: list[int | ir.SymbolicDim | None] = list(value.shape)
    now = dims[axis]
    dims[axis] = size if size is not None else now + more if isinstance(now, int) else None
    return ir.Shape(dims)

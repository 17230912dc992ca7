"""The gated dense model: the oracle's other half."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.walk import graphs, nodes
from prunec.passes.carriers import carried
from prunec.passes.insert import home_of, names_in, new_initializer, values_by_name
from prunec.passes.reference import run_over_kept

WHERE_SINCE = 9  # opset of Where

Mask = NDArray[np.bool_]


def gate(model: ir.Model, facts: Facts, graph: Hypergraph, mask: Mask) -> ir.Model:
    """The dense model with every removed channel set to zero wherever it is computed.

    Nodes for which that is not the same as leaving channels out (a norm's statistics, under
    `Freedom.residual`) run over the channels that stay.
    """
    gated = model.clone()
    removed: dict[str, dict[int, Mask]] = defaultdict(dict)
    for (gated_value, axis), groups in graph.axes.items():
        if not mask[groups].all():
            removed[gated_value][axis] = mask[groups]
    taken = names_in(gated.graph)
    store = partial(new_initializer, gated.graph, taken)
    for node in nodes(gated.graph):
        if node.name in graph.inexact and not _is_empty(node, removed):
            run_over_kept(node, removed, store)
    holders = values_by_name(gated.graph)
    for body in list(graphs(gated.graph))[1:]:
        # What enters a loop may be a weight the first time, and what its body made later on.
        for value in body.inputs:
            if (value.name or "") in removed and _is_float(value, facts):
                _gate_entry(gated.graph, body, taken, value, removed[value.name or ""], facts)
    for node in nodes(gated.graph):
        for value in node.outputs:
            name = value.name or ""
            has_zero = name in graph.zeros or _is_float(value, facts)
            if name in removed and name not in graph.trace.constants and has_zero:
                zero = holders.get(graph.zeros.get(name, ""))
                _gate_value(gated.graph, taken, node, value, removed[name], facts, zero)
    named = {node.name: node for node in nodes(gated.graph)}
    for (name, position), axes in _sums_inside(graph).items():
        if name in named:
            _gate_weight(gated.graph, taken, named[name], position, axes, removed, facts)
    return gated


def _is_empty(node: ir.Node, removed: Mapping[str, Mapping[int, Mask]]) -> bool:
    """Whether none of the channels stays that the node reads or makes: nothing to run over."""
    own = (v for v in (*node.inputs, *node.outputs) if v is not None)
    masks = (removed.get(v.name or "", {}).values() for v in own)
    return any(not kept.any() for own in masks for kept in own)


def _is_float(value: ir.Value, facts: Facts) -> bool:
    dtype = value.dtype
    if dtype is None and (value.name or "") in facts.dtypes:
        return facts.dtypes[value.name or ""].kind == "f"
    return dtype is not None and dtype.is_floating_point()


def _gate_value(
    graph: ir.Graph,
    taken: set[str],
    node: ir.Node,
    value: ir.Value,
    masks: Mapping[int, Mask],
    facts: Facts,
    zero: ir.Value | None,
) -> None:
    uses = list(value.uses())
    gate_node = _gate_node(graph, taken, value, f"{value.name}", masks, facts, zero)
    new = carried(gate_node)
    home_of(node).insert_after(node, new)
    for user, position in uses:
        user.replace_input_with(position, new[-1].outputs[0])


def _gate_entry(
    graph: ir.Graph,
    body: ir.Graph,
    taken: set[str],
    value: ir.Value,
    masks: Mapping[int, Mask],
    facts: Facts,
) -> None:
    """Zero what is removed of an input of a body."""
    uses = list(value.uses())
    new = carried(_gate_node(graph, taken, value, f"{value.name}", masks, facts))
    if len(body):
        body.insert_before(body[0], new)
    else:
        body.extend(new)
    for user, position in uses:
        user.replace_input_with(position, new[-1].outputs[0])


def _sums_inside(graph: Hypergraph) -> Mapping[tuple[str, int], Sequence[int]]:
    """(node, input position) -> the axes along which the node sums what no value holds."""
    axes: dict[tuple[str, int], list[int]] = defaultdict(list)
    for name, position, axis in graph.recurs:
        axes[name, position].append(axis)
    return axes


def _gate_weight(
    graph: ir.Graph,
    taken: set[str],
    node: ir.Node,
    position: int,
    axes: Sequence[int],
    removed: Mapping[str, Mapping[int, Mask]],
    facts: Facts,
) -> None:
    """What a node sums inside itself, state or positions of a kernel, is zeroed in the weight."""
    value = node.inputs[position]
    own = {} if value is None else removed.get(value.name or "", {})
    masks = {axis: own[axis] for axis in axes if axis in own}
    if value is None or not masks:
        return
    new = carried(_gate_node(graph, taken, value, f"{node.name}.{position}", masks, facts))
    home_of(node).insert_before(node, new)
    node.replace_input_with(position, new[-1].outputs[0])


def _gate_node(
    graph: ir.Graph,
    taken: set[str],
    value: ir.Value,
    stem: str,
    masks: Mapping[int, Mask],
    facts: Facts,
    zero: ir.Value | None = None,
) -> ir.Node:
    """A node, not yet in the graph, that zeroes what is removed of `value`.

    zero: the value that holds the zero point of integers, None for 0.
    """
    rank = len(facts.shapes[value.name or ""])
    whole = np.ones([1] * rank, bool)
    for axis, kept in masks.items():
        shape = [1] * rank
        shape[axis] = -1
        whole = whole & kept.reshape(shape)
    dtype = value.dtype or ir.DataType.from_numpy(facts.dtypes[value.name or ""])
    if graph.opset_imports.get("", WHERE_SINCE) >= WHERE_SINCE:
        # Where, not Mul: zero times infinity would not be zero.
        keep = new_initializer(graph, taken, f"{stem}.kept", whole)
        if zero is None:
            zero = new_initializer(graph, taken, f"{stem}.zero", np.zeros((), dtype.numpy()))
        op, inputs = "Where", [keep, value, zero]
    else:
        keep = new_initializer(graph, taken, f"{stem}.kept", whole.astype(dtype.numpy()))
        op, inputs = "Mul", [value, keep]
    gate_node = ir.Node("", op, inputs, num_outputs=1, name=f"{stem}.gate")
    gate_node.outputs[0].name = f"{stem}.gated"
    gate_node.outputs[0].dtype = dtype
    return gate_node

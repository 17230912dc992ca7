"""Branches whose channels are all gone: what is left of them is a constant, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.region import CONTRACTIONS, SUMS, Region, Wiring, empty_sum
from prunec.passes.insert import names_in, new_initializer

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def vanishing(graph: ir.Graph, hypergraph: Hypergraph, mask: Mask) -> tuple[Wiring, Region] | None:
    """The region of the branches that have no channels left; None where all stay open."""
    edges, inner = hypergraph.edges, (k for branch in hypergraph.branches for k in branch)
    empty = [k for k in inner if not mask[edges[k].first : edges[k].first + edges[k].size].any()]
    if not empty:
        return None
    wiring = Wiring(graph, hypergraph)
    region = wiring.region(empty)
    assert not region.wrong, region.wrong
    return wiring, region


def vanish(graph: ir.Graph, facts: Facts, hypergraph: Hypergraph, mask: Mask) -> bool:
    """Take out what `Wiring.region` names, if any branch has no channels left.

    graph: sliced already, edited in place. facts: of the dense model. What a branch adds without
    its channels becomes one stored operand of the node that reads it; a sum with nothing but zeros
    goes too, and a concatenation gets shorter. Nodes that nobody reads any more are left to
    `remove_dead`.
    """
    found = vanishing(graph, hypergraph, mask)
    if found is None:
        return False
    wiring, region = found
    contents = constants(wiring, region, facts)
    store = partial(new_initializer, graph, names_in(graph))
    named = {node.name: node for node in graph}
    for name in region.readers:
        node = named[name]
        if node.op_type == "Concat":
            _shorten(node, region)
            continue
        for position, value in enumerate(node.inputs):
            stem = value.name or "" if value is not None else ""
            if stem in contents:
                node.replace_input_with(position, store(f"{stem}.constant", contents[stem]))
        _drop_zeros(node, wiring)
    return True


def constants(wiring: Wiring, region: Region, facts: Facts) -> dict[str, Array]:
    """Contents of what the region leaves behind, of size 1 along axes where they are the same."""
    made = {node.name: node for node in wiring.nodes}
    contents: dict[str, Array] = {}
    for name in region.nodes:
        node = made[name]
        result = next((v for v in node.outputs if v.name in region.constants), None)
        if result is None:
            continue
        if node.op_type in CONTRACTIONS:
            contents[result.name or ""] = _bias(node, result, wiring, facts)
        else:
            known = partial(_known, contents, wiring)
            contents[result.name or ""] = wiring.folded(node, known)
    return contents


def _bias(node: ir.Node, result: ir.Value, wiring: Wiring, facts: Facts) -> Array:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    stored = None if bias is None else wiring.contents(bias.name or "")
    name = result.name or ""
    dtype = facts.dtypes[name] if name in facts.dtypes else np.dtype(np.float32)
    return empty_sum(node, stored, len(wiring.shape(name)), dtype)


def _known(contents: Mapping[str, Array], wiring: Wiring, name: str) -> Array:
    array = contents[name] if name in contents else wiring.contents(name)
    assert array is not None, name
    return array


def _shorten(node: ir.Node, region: Region) -> None:
    """Leave the parts of a concatenation that have channels."""
    parts = [v for v in node.inputs if v is not None and v.name not in region.gone]
    for position, value in enumerate(parts):
        node.replace_input_with(position, value)
    node.resize_inputs(len(parts))
    if len(parts) == 1:
        _bypass(node, parts[0])


def _drop_zeros(node: ir.Node, wiring: Wiring) -> None:
    """A sum of one operand and zeros is that operand."""
    if node.op_type not in SUMS:
        return
    values = [v for v in node.inputs if v is not None]
    live = [v for v in values if v.const_value is None or v.const_value.numpy().any()]
    subtracted = node.op_type == "Sub" and (not live or live[0] is not values[0])
    same = len(live) == 1 and not subtracted
    if same and wiring.shape(live[0].name or "") == wiring.shape(node.outputs[0].name or ""):
        _bypass(node, live[0])


def _bypass(node: ir.Node, value: ir.Value) -> None:
    """Let readers of a node read `value`; a node that makes an output of the graph stays."""
    result = node.outputs[0]
    if not result.is_graph_output():
        for user, position in list(result.uses()):
            user.replace_input_with(position, value)

"""Convolutions that may become grouped ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import KEPT, Groups, Hypergraph
from prunec.compiler.ops import op_key
from prunec.compiler.walk import initializers, nodes
from prunec.passes.recovery.storage import tensor_of


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A stored weight (F, C, *K) that only dense convolutions read.

    nodes: names of these, in graph order. outputs: (F,), inputs: (C,) channel group at each
    position, KEPT where it can't leave. reads, writes: elements of what all its nodes read and
    make, per channel.
    """

    weight: str
    nodes: tuple[str, ...]
    shape: tuple[int, ...]
    outputs: Groups
    inputs: Groups
    reads: int
    writes: int


def group_sites(model: ir.Model, facts: Facts, graph: Hypergraph) -> tuple[Site, ...]:
    """Sites of a model, in the order in which the graph first reads their weights."""
    stored = stored_values(model)
    found: dict[str, list[ir.Node]] = {}
    for node in nodes(model.graph):
        weight = node.inputs[1] if op_key(node) == "Conv" else None
        if weight is not None and (weight.name or "") in stored:
            found.setdefault(weight.name or "", []).append(node)
    sites = []
    for name, readers in found.items():
        value, shape = stored[name], facts.shapes.get(name, ())
        if len(shape) < 2 or min(shape[:2]) < 2 or not _only_read_by(value, readers):
            continue
        outputs, inputs = (
            graph.axes.get((name, k), np.full(shape[k], KEPT, np.int64)) for k in range(2)
        )
        reads, writes = (
            sum(_per_channel(facts, v) for v in ends)
            for ends in ([n.inputs[0] for n in readers], [n.outputs[0] for n in readers])
        )
        names = tuple(n.name or "" for n in readers)
        sites.append(Site(name, names, shape, outputs, inputs, reads, writes))
    return tuple(sites)


def stored_values(model: ir.Model) -> Mapping[str, ir.Value]:
    """Name -> every stored tensor: initializers and what Constant nodes give."""
    out = dict(initializers(model.graph))
    for node in nodes(model.graph):
        if op_key(node) == "Constant" and node.outputs[0].name:
            out[node.outputs[0].name] = node.outputs[0]
    return out


def _only_read_by(value: ir.Value, readers: list[ir.Node]) -> bool:
    """Whether dense convolutions read this float tensor as their weight, and nothing else."""
    tensor = tensor_of(value)
    if tensor is None or not tensor.dtype.is_floating_point() or value.is_graph_output():
        return False
    uses = list(value.uses())
    own = {id(n) for n in readers if attribute(n, "group", 1) == 1}
    return all(id(node) in own and position == 1 for node, position in uses)


def _per_channel(facts: Facts, value: ir.Value | None) -> int:
    shape = facts.shapes.get(value.name or "", ()) if value is not None else ()
    return prod(shape) // shape[1] if len(shape) > 1 and shape[1] else 0

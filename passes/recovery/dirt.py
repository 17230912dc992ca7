"""Where the pruned model computes something else than the dense one did."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx_ir as ir

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.ops import op_key
from prunec.compiler.recovery import Mask
from prunec.compiler.walk import bodies, nodes


def changed(
    dense: ir.Model,
    pruned: ir.Model,
    graph: Hypergraph,
    mask: Mask,
    masked: Collection[str] = (),
) -> frozenset[str]:
    """Names of values of the pruned model that need not equal the dense ones at kept channels.

    What a node makes is changed where it reads what is, where it sums over channels some of which
    are gone, or where the node was rewired. masked: stored tensors of which parts became 0.
    """
    before = {node.name: _read(node) for node in nodes(dense.graph)}
    summed = {
        (name, axis)
        for name, axis in graph.reads
        if (name, axis) in graph.axes and not mask[graph.axes[name, axis]].all()
    }
    lossy = {name for name, _ in summed}
    sums = {node for node, position, axis in graph.read_by}
    found: set[str] = set()
    for node in pruned.graph:
        read = _read(node)
        kind = op_key(node)
        loses = node.name in sums and any(name in lossy for name in read)
        loses = loses or any(name in masked for name in read)
        rewired = before.get(node.name) != read
        if kind != "Constant" and (
            loses or rewired or node.name in graph.inexact or not found.isdisjoint(read)
        ):
            found |= {str(v.name) for v in node.outputs}
    return frozenset(found)


def _read(node: ir.Node) -> tuple[str, ...]:
    own: Iterable[ir.Value | None] = node.inputs
    inner = [v for body in bodies(node) for n in nodes(body) for v in n.inputs]
    return tuple(str(v.name) for v in (*own, *inner) if v is not None)

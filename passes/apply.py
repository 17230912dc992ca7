"""Rewriting: a plan and the dense model give the pruned model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.plan import weight_slices
from prunec.compiler.walk import bodies, graphs, initializers, needs_first, nodes, values
from prunec.passes.follow import Follower
from prunec.passes.join import fit_joins
from prunec.passes.vanish import vanish

Mask = NDArray[np.bool_]
Slices = Mapping[int, tuple[int, ...]]


def prune(model: ir.Model, facts: Facts, graph: Hypergraph, mask: Mask) -> ir.Model:
    """A new model without the channel groups where `mask` is False.

    mask: (number_of_groups + 1,), as `Plan.mask` returns it. Weights are sliced when they are
    read, so memory holds one at a time. Names, metadata, opsets and symbolic dimensions stay. A
    branch (`Hypergraph.branches`) none of whose channels is kept vanishes.
    """
    pruned = model.clone()
    slices = weight_slices(graph, mask)
    _slice_weights(pruned.graph, slices)
    _refresh_shapes(pruned.graph, graph, mask)
    if vanish(pruned.graph, facts, graph, mask):
        remove_dead(pruned.graph)
    Follower(pruned.graph, facts, graph, mask, slices).run()
    fit_joins(pruned.graph, facts, graph, mask)
    remove_dead(pruned.graph)
    reorder(pruned.graph, graph.order)
    return pruned


def reorder(graph: ir.Graph, order: Sequence[str]) -> None:
    """Let the nodes of a graph stand in this order; others come right before who needs them.

    order: names, possibly of nodes that are gone; () changes nothing. Bodies keep their order.
    """
    if not order:
        return
    place = {name: k for k, name in enumerate(order)}
    targets = sorted(graph, key=lambda node: place.get(node.name or "", len(place)))
    out = needs_first(targets, _makers)
    graph.remove(out)
    graph.extend(out)


def _makers(node: ir.Node) -> list[ir.Node]:
    """The nodes of its graph whose results a node or its bodies read."""
    read = [*node.inputs]
    for body in bodies(node):
        for inner in nodes(body):
            read += inner.inputs
        for own in graphs(body):
            read.extend(own.outputs)  # not +=, which the container refuses
    found = (value.producer() for value in read if value is not None)
    return list(dict.fromkeys(n for n in found if n is not None and n.graph is node.graph))


def _take(tensor: ir.TensorProtocol, slices: Slices) -> ir.Tensor[Any]:
    array = tensor.numpy()
    # The axis that shrinks most goes first: less to copy for the others.
    for axis, kept in sorted(slices.items(), key=lambda s: len(s[1]) / array.shape[s[0]]):
        array = np.take(array, np.array(kept, np.int64), axis)
    if isinstance(tensor, ir.ExternalTensor):
        tensor.release()
    return ir.Tensor(np.ascontiguousarray(array), dtype=tensor.dtype, name=tensor.name)


def sliced(tensor: ir.TensorProtocol, slices: Slices) -> ir.LazyTensor:
    """A tensor that is sliced whenever it is read, never kept."""
    shape = [len(slices.get(k, range(n))) for k, n in enumerate(tensor.shape.numpy())]
    return ir.LazyTensor(
        lambda: _take(tensor, slices),
        dtype=tensor.dtype,
        shape=ir.Shape(shape),
        name=tensor.name,
    )


def _slice_weights(graph: ir.Graph, slices: Mapping[str, Slices]) -> None:
    for name, value in initializers(graph).items():
        if name in slices and value.const_value is not None:
            value.const_value = sliced(value.const_value, slices[name])
    for node in nodes(graph):
        if node.op_type == "Constant" and (node.outputs[0].name or "") in slices:
            cut = slices[node.outputs[0].name or ""]
            ((name, attr),) = list(node.attributes.items())[:1]
            array = np.asarray(attr.value.numpy() if name == "value" else attr.value)
            dtype = attr.value.dtype if name == "value" else None
            if dtype is None and name == "value_floats":
                array = array.astype(np.float32)
            tensor = _take(ir.Tensor(array, dtype=dtype), cut)
            del node.attributes[name]
            node.attributes["value"] = ir.AttrTensor("value", tensor)


def _refresh_shapes(graph: ir.Graph, hypergraph: Hypergraph, mask: Mask) -> None:
    changed: dict[str, dict[int, int]] = defaultdict(dict)
    for (name, axis), groups in hypergraph.axes.items():
        kept = mask[groups]
        if not kept.all():
            changed[name][axis] = int(kept.sum())
    for value in values(graph):
        sizes = changed.get(value.name or "")
        if sizes and value.shape is not None:
            value.shape = ir.Shape([sizes.get(k, dim) for k, dim in enumerate(value.shape)])


def remove_dead(graph: ir.Graph) -> None:
    """Remove nodes and initializers that nothing reads, in bodies too."""
    for node in reversed(list(graph)):
        if all(not v.uses() and not v.is_graph_output() for v in node.outputs):
            for inner in (n for body in bodies(node) for n in nodes(body)):
                inner.resize_inputs(0)  # else what a removed body read would look used
            graph.remove(node, safe=True)
        else:
            for body in bodies(node):
                remove_dead(body)
    inputs = {v.name for v in graph.inputs}
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and name not in inputs:
            del graph.initializers[name]

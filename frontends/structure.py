"""Is a graph well formed: unique names, every input produced, no cycle; brought into order."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, MutableSequence, Sequence

import onnx

from prunec.compiler.errors import ModelError

DEFAULT_DOMAINS = ("", "ai.onnx")


def check_structure(model: onnx.ModelProto, label: str) -> None:
    """Check names and edges of a model and sort its nodes topologically, in place and stably.

    Raises ModelError with the first fault found. Cost: linear in nodes and edges, bar the sort.
    """
    if not model.HasField("graph"):
        raise ModelError(f"{label}: holds no graph; is this an ONNX model?")
    if model.training_info:
        raise ModelError(f"{label}: carries training_info, which would be lost; remove it first")
    _order_graph(model.graph, frozenset(), label)
    for function in model.functions:
        where = f"{label}: function {function.name!r}"
        produced = _declare(function.input, function.node, where)
        _order(function.node, produced, frozenset(), where)
        _check_outputs(function.output, produced, frozenset(), where)


def graphs_of(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Every graph of a model: the main graph, then all subgraphs, those of functions too."""
    yield model.graph
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        yield from _subgraphs_below(nodes)


def spell_default_domain(model: onnx.ModelProto) -> None:
    """Write the default domain as "" in nodes and imports, in place: ai.onnx is its other name."""
    for holder in (model, *model.functions):
        imports = holder.opset_import
        if all(entry.domain for entry in imports):
            for entry in imports:
                entry.domain = "" if entry.domain in DEFAULT_DOMAINS else entry.domain
    bodies = [graph.node for graph in graphs_of(model)]
    for nodes in (*bodies, *(function.node for function in model.functions)):
        for node in nodes:
            node.domain = "" if node.domain in DEFAULT_DOMAINS else node.domain


def tensors_in_attributes(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that is an attribute, in the main graph, subgraphs and functions."""
    bodies = [graph.node for graph in graphs_of(model)]
    for nodes in (*bodies, *(function.node for function in model.functions)):
        for node in nodes:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _subgraphs_below(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for graph in subgraphs(node):
            yield graph
            yield from _subgraphs_below(graph.node)


def _order_graph(graph: onnx.GraphProto, outer: frozenset[str], label: str) -> None:
    inputs = [value.name for value in graph.input]
    weights = [tensor.name for tensor in graph.initializer]
    for kind, names in (("graph input", inputs), ("initializer", weights)):
        if "" in names:
            raise ModelError(f"{label}: {kind} {names.index('')} has no name")
        if len(set(names)) != len(names):
            twice = next(name for k, name in enumerate(names) if name in names[:k])
            raise ModelError(f"{label}: two values are named {twice!r} (both a {kind})")
    produced = _declare([*inputs, *(set(weights) - set(inputs))], graph.node, label)
    _order(graph.node, produced, outer, label)
    _check_outputs([value.name for value in graph.output], produced, outer, label)


def _declare(given: Sequence[str], nodes: Sequence[onnx.NodeProto], label: str) -> dict[str, int]:
    """Value name -> index of the node that produces it, -1 for inputs and initializers."""
    produced = dict.fromkeys(given, -1)
    for index, node in enumerate(nodes):
        for name in node.output:
            if name in produced:
                raise ModelError(f"{label}: two values are named {name!r}: {_title(node, index)}")
            if name:
                produced[name] = index
    return produced


def _check_outputs(
    outputs: Sequence[str], produced: dict[str, int], outer: frozenset[str], label: str
) -> None:
    for name in outputs:
        if name not in produced and name not in outer:
            raise ModelError(f"{label}: output {name!r} is produced by no node")


def _order(
    nodes: MutableSequence[onnx.NodeProto],
    produced: dict[str, int],
    outer: frozenset[str],
    label: str,
) -> None:
    """Check that all inputs exist; sort `nodes` (a repeated field) where they are out of order."""
    visible = outer.union(produced)
    needs: list[set[int]] = []
    for index, node in enumerate(nodes):
        sources = set()
        for name in _reads(node, visible, label):
            if name not in visible:
                raise ModelError(
                    f"{label}: {_title(node, index)} reads {name!r}, which nothing produces"
                )
            sources.add(produced.get(name, -1))
        sources.discard(-1)
        needs.append(sources)
    if any(source >= index for index, sources in enumerate(needs) for source in sources):
        order = _stable_order(needs)
        if len(order) < len(needs):
            first = min(set(range(len(needs))) - set(order))
            raise ModelError(
                f"{label}: the graph has a cycle through or before {_title(nodes[first], first)}"
            )
        held = onnx.GraphProto()
        held.node.extend(nodes[index] for index in order)
        del nodes[:]
        nodes.extend(held.node)


def _reads(node: onnx.NodeProto, visible: frozenset[str], label: str) -> Iterator[str]:
    """Names that a node reads from its graph or from further out, through its subgraphs too."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        _order_graph(graph, visible, label)
        yield from _free_names(graph)


def _free_names(graph: onnx.GraphProto) -> Iterator[str]:
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own.update(name for node in graph.node for name in node.output)
    for node in graph.node:
        yield from (name for name in node.input if name and name not in own)
        for inner in subgraphs(node):
            yield from (name for name in _free_names(inner) if name not in own)
    yield from (value.name for value in graph.output if value.name not in own)


def _stable_order(needs: Sequence[set[int]]) -> list[int]:
    """Kahn's algorithm; among the ready nodes the first in file order goes first."""
    users: list[list[int]] = [[] for _ in needs]
    for index, sources in enumerate(needs):
        for source in sources:
            users[source].append(index)
    waiting = [len(sources) for sources in needs]
    ready = [index for index, count in enumerate(waiting) if count == 0]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for user in users[index]:
            waiting[user] -= 1
            if waiting[user] == 0:
                heapq.heappush(ready, user)
    return order


def _title(node: onnx.NodeProto, index: int) -> str:
    return f"node {node.name or index} ({node.op_type})"

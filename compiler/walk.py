"""Graphs within graphs: what must see the bodies of control flow iterates through here."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

import onnx_ir as ir

T = TypeVar("T", bound=Hashable)
GRAPH_KINDS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})


def bodies(node: ir.Node) -> tuple[ir.Graph, ...]:
    """The graphs among a node's attributes: branches, loop bodies."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type in GRAPH_KINDS and not attribute.is_ref():
            found += attribute.value if attribute.type is ir.AttributeType.GRAPHS else []
            found += [attribute.value] if attribute.type is ir.AttributeType.GRAPH else []
    return tuple(found)


def graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    """`graph`, then all graphs inside it, in the order in which `nodes` enters them."""
    yield graph
    for node in graph:
        for body in bodies(node):
            yield from graphs(body)


def nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Every node in the order in which values are computed: those of its bodies before a node.

    The nodes of each graph are listed when that graph is reached, so it may change meanwhile.
    """
    for node in list(graph):
        for body in bodies(node):
            yield from nodes(body)
        yield node


def initializers(graph: ir.Graph) -> dict[str, ir.Value]:
    """Name -> stored tensor, those of bodies too; `naming.py` makes names unique."""
    return {name: value for g in graphs(graph) for name, value in g.initializers.items()}


def values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Every value: inputs and stored tensors of each graph, then what its nodes compute."""
    for g in graphs(graph):
        yield from g.inputs
        yield from (v for v in g.initializers.values() if not v.is_graph_input())
        for node in g:
            yield from node.outputs


def needs_first(targets: Iterable[T], needs: Callable[[T], Sequence[T]]) -> list[T]:
    """The targets in their order, each once, with what it needs right before it.

    needs: what must come before an item; no cycles.
    """
    placed: set[T] = set()
    out: list[T] = []
    for target in targets:
        pending = [target]
        while pending:
            item = pending[-1]
            missing = [] if item in placed else [n for n in needs(item) if n not in placed]
            if missing:
                pending += reversed(missing)
                continue
            pending.pop()
            if item not in placed:
                placed.add(item)
                out.append(item)
    return out

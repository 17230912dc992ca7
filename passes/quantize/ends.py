"""The first and the last layers of a graph, and what lies before a layer."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

Names = frozenset[str]


def ends(graph: ir.Graph, layers: Iterable[ir.Node]) -> tuple[Names, Names]:
    """Names of the layers that no other layer is before, and of those that none is behind."""
    wanted = set(layers)
    behind: set[ir.Value] = set()  # values that a layer is before
    first = set()
    for node in graph:
        below = any(value in behind for value in node.inputs if value is not None)
        if node in wanted and not below:
            first.add(str(node.name))
        if below or node in wanted:
            behind.update(node.outputs)
    before = _before(graph, wanted)
    last = {
        str(node.name)
        for node in graph
        if node in wanted and not any(value in before for value in node.outputs)
    }
    return frozenset(first), frozenset(last)


def read_by_layers(graph: ir.Graph, layers: Iterable[ir.Node]) -> Names:
    """Names of the values that a layer reads, at first or second hand."""
    return frozenset(str(value.name) for value in _before(graph, set(layers)))


def _before(graph: ir.Graph, wanted: set[ir.Node]) -> set[ir.Value]:
    found: set[ir.Value] = set()
    for node in reversed(graph):
        if node in wanted or any(value in found for value in node.outputs):
            found.update(value for value in node.inputs if value is not None)
    return found

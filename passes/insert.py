"""New tensors and nodes: free names, and the graph that a node is in."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.walk import values


def home_of(node: ir.Node) -> ir.Graph:
    """The graph or body that a node is in."""
    assert isinstance(node.graph, ir.Graph), node.name
    return node.graph


def names_in(graph: ir.Graph) -> set[str]:
    """Names of all values of the graph and its bodies."""
    return set(values_by_name(graph))


def values_by_name(graph: ir.Graph) -> dict[str, ir.Value]:
    """Every named value of the graph and its bodies."""
    return {value.name: value for value in values(graph) if value.name}


def new_initializer(graph: ir.Graph, taken: set[str], name: str, array: NDArray[Any]) -> ir.Value:
    """A new stored tensor. graph: the main one, whose values every body sees."""
    unique, n = name, 1
    while unique in taken:
        unique, n = f"{name}.{n}", n + 1
    taken.add(unique)
    value = ir.Value(name=unique, const_value=ir.tensor(array, name=unique))
    value.shape = ir.Shape(array.shape)
    value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    graph.register_initializer(value)
    return value

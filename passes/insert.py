"""New tensors and nodes: free names, and the graph that a node is in."""

from __future__ import annotations

from typing import Any

import numpy as np
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


def free_name(stem: str, taken: set[str]) -> str:
    """`stem`, with a number where it is taken; the result is taken from now on."""
    name, n = stem, 1
    while name in taken:
        name, n = f"{stem}.{n}", n + 1
    taken.add(name)
    return name


def new_initializer(
    graph: ir.Graph, taken: set[str], name: str, contents: NDArray[Any] | ir.TensorProtocol
) -> ir.Value:
    """A new stored tensor. graph: the main one, whose values every body sees."""
    unique = free_name(name, taken)
    if isinstance(contents, np.ndarray):
        contents = ir.tensor(contents, name=unique)
    value = ir.Value(name=unique, const_value=contents)
    value.shape, value.type = ir.Shape(contents.shape.numpy()), ir.TensorType(contents.dtype)
    graph.register_initializer(value)
    return value

"""A fingerprint of a graph's structure that does not depend on its trained weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import onnx_ir as ir

from prunec.compiler.walk import initializers, nodes

SCHEME = "prunec-graph-1"


def graph_digest(model: ir.Model) -> str:
    """The sha256 (hex) of a model's structure: equal before and after fine-tuning.

    Covers nodes, names, attributes, inputs and outputs with types, initializers by name, type and
    shape, contents of integer and boolean tensors, functions and opsets; neither the contents of
    float weights nor metadata, doc strings or intermediate shapes.
    """
    state = hashlib.sha256()
    for line in _model_lines(model):
        state.update(line.encode())
        state.update(b"\n")
    return state.hexdigest()


def weights_digest(model: ir.Model) -> str:
    """The sha256 (hex) of the contents of all stored tensors, with their names and types."""
    state = hashlib.sha256()
    for name, value in sorted(initializers(model.graph).items()):
        if value.const_value is not None:
            _add(state, name, value.const_value)
    for node in nodes(model.graph):
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                _add(state, f"{node.name}.{attribute.name}", attribute.value)
    return state.hexdigest()


def _add(state: Any, name: str, tensor: ir.TensorProtocol) -> None:
    text = tensor.dtype == ir.DataType.STRING
    state.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
    state.update(repr(tensor.numpy().tolist()).encode() if text else tensor.tobytes())


def _model_lines(model: ir.Model) -> Iterator[str]:
    yield SCHEME
    yield f"opsets {sorted(model.opset_imports.items())}"
    yield from _graph_lines(model.graph)
    for key, function in sorted(model.functions.items()):
        yield f"function {key} {sorted(function.opset_imports.items())}"
        yield f"inputs {[value.name for value in function.inputs]}"
        yield f"outputs {[value.name for value in function.outputs]}"
        yield from _attribute_lines(function.attributes.values(), weight=False)
        for node in function:
            yield from _node_lines(node)


def _graph_lines(graph: ir.Graph) -> Iterator[str]:
    for kind, values in (("input", graph.inputs), ("output", graph.outputs)):
        for value in values:
            yield f"{kind} {value.name!r} {value.type} {value.shape}"
    for name, value in sorted(graph.initializers.items()):
        if value.const_value is not None:
            yield f"initializer {name!r} {_tensor(value.const_value, weight=True)}"
    for node in graph:
        yield from _node_lines(node)


def _node_lines(node: ir.Node) -> Iterator[str]:
    inputs = [None if value is None else value.name for value in node.inputs]
    outputs = [value.name for value in node.outputs]
    yield f"node {node.name!r} {node.domain}::{node.op_type}:{node.overload} {inputs} {outputs}"
    yield from _attribute_lines(node.attributes.values(), weight=node.op_type == "Constant")


def _attribute_lines(attributes: Iterable[ir.Attr], *, weight: bool) -> Iterator[str]:
    for attribute in sorted(attributes, key=lambda entry: entry.name):
        head = f"attribute {attribute.name!r} {attribute.type.name}"
        value: Any = attribute.value
        if attribute.is_ref():
            yield f"{head} ref {attribute.ref_attr_name!r}"
        elif attribute.type == ir.AttributeType.TENSOR:
            yield f"{head} {_tensor(value, weight=weight)}"
        elif attribute.type == ir.AttributeType.TENSORS:
            yield f"{head} {[_tensor(tensor, weight=weight) for tensor in value]}"
        elif attribute.type == ir.AttributeType.GRAPH:
            yield head
            yield from _graph_lines(value)
            yield "end"
        elif attribute.type == ir.AttributeType.GRAPHS:
            for graph in value:
                yield head
                yield from _graph_lines(graph)
                yield "end"
        else:
            yield f"{head} {value!r}"


def _tensor(tensor: ir.TensorProtocol, *, weight: bool) -> str:
    """Type and shape; contents too, unless they are trained: those of a float `weight`."""
    text = f"{tensor.dtype.name} {tensor.shape}"
    if tensor.dtype == ir.DataType.STRING:
        return f"{text} {tensor.numpy().tolist()!r}"
    if weight and tensor.dtype.is_floating_point():
        return text
    return f"{text} {hashlib.sha256(tensor.tobytes()).hexdigest()}"

"""Two models that differ in the contents of float tensors only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from prunec.compiler.ops import op_key
from prunec.compiler.walk import GRAPH_KINDS, graphs, initializers, nodes
from prunec.runtime.difference import Failed


def check_only_weights(sliced: ir.Model, changed: ir.Model) -> str:
    """Same nodes, names, attributes, shapes and element types; finite numbers. Raises Failed.

    Returns how many stored tensors differ.
    """
    before, after = list(_outline(sliced)), list(_outline(changed))
    for line, other in zip(before, after, strict=False):
        if line != other:
            raise Failed(f"{other[0]} is not what slicing gives: {_first(line, other)}")
    if len(before) != len(after):
        raise Failed(
            f"{len(after)} nodes, inputs, outputs and weights; slicing gives {len(before)}"
        )
    first, second = dict(_tensors(sliced)), dict(_tensors(changed))
    arguments = _arguments(sliced)
    different = 0
    for name, old in first.items():
        a, b = old.numpy(), second[name].numpy()
        if np.array_equal(a.view(np.uint8), b.view(np.uint8)) if a.ndim else a == b:
            continue
        different += 1
        if name in arguments:
            raise Failed(f"{name} has other contents, and {arguments[name]} reads no weight there")
        if not old.dtype.is_floating_point():
            raise Failed(f"{name} is of {old.dtype.name.lower()} and has other contents")
        if not np.isfinite(b.astype(np.float64)).all():
            raise Failed(f"{name} holds NaN or infinite numbers")
    return f"{different} of {len(first)} stored tensors have other numbers; all else is as sliced"


Line = tuple[str, Any]


def _first(old: Line, new: Line) -> str:
    return f"{new[1]} instead of {old[1]}"[:300]


# Floats that say how much, how far or how large -> the inputs where they stand.
ARGUMENTS: Mapping[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "Dropout": (1,),
    "NonMaxSuppression": (3, 4),
    "OneHot": (2,),
    "Pad": (2,),
    "Range": (0, 1, 2),
    "Resize": (1, 2),
    "Upsample": (1,),
}


def _arguments(model: ir.Model) -> dict[str, str]:
    """Stored tensor -> the node that reads it, directly, where no weight stands."""
    found = {}
    for node in nodes(model.graph):
        for position in ARGUMENTS.get(op_key(node), ()):
            value = node.inputs[position] if position < len(node.inputs) else None
            if value is None:
                continue
            maker = value.producer()
            name = str(value.name) if maker is None else f"{maker.name}.value"
            found[name] = f"{node.op_type} {node.name}"
    return found


def _outline(model: ir.Model) -> Iterator[Line]:
    """Everything but the contents of tensors."""
    yield "opset imports", sorted(model.opset_imports.items())
    yield "metadata", sorted(model.metadata_props.items())
    containers = [g for f in model.functions.values() for g in graphs(f.graph)]
    containers += graphs(model.graph)
    for container in containers:
        for what in ("inputs", "outputs"):
            for value in getattr(container, what):
                yield f"{what[:-1]} {value.name}", (str(value.shape), str(value.type))
    for container in (*(f.graph for f in model.functions.values()), model.graph):
        for node in nodes(container):
            yield from _node(node)
    for name, value in sorted(initializers(model.graph).items()):
        tensor = value.const_value
        if tensor is not None:
            yield f"weight {name}", (tensor.dtype.name, tuple(tensor.shape.numpy()))


def _node(node: ir.Node) -> Iterator[Line]:
    names = [None if v is None else v.name for v in node.inputs]
    made = [v.name for v in node.outputs]
    yield f"node {node.name}", (node.domain, node.op_type, names, made)
    for name, held in sorted(node.attributes.items()):
        if held.type in GRAPH_KINDS:
            continue
        if held.type is ir.AttributeType.TENSOR and not held.is_ref():
            said: Any = (held.value.dtype.name, tuple(held.value.shape.numpy()))
        else:
            said = held.ref_attr_name if held.is_ref() else str(held.value)
        yield f"attribute {name} of node {node.name}", said


def _tensors(model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol]]:
    for name, value in initializers(model.graph).items():
        if value.const_value is not None:
            yield name, value.const_value
    inside = [n for function in model.functions.values() for n in nodes(function.graph)]
    for node in (*nodes(model.graph), *inside):
        for name, held in node.attributes.items():
            if held.type is ir.AttributeType.TENSOR and not held.is_ref():
                yield f"{node.name}.{name}", held.value

"""BatchNormalization folded into the layer before it: integer kernels know no norm of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute
from prunec.compiler.literals import literal
from prunec.compiler.ops import op_key

FloatArray = NDArray[np.float64]
EPSILON = 1e-5  # of BatchNormalization, where it says nothing


@dataclass(frozen=True, slots=True)
class Folded:
    """norms: names of the nodes that are gone. weights, biases: of stored tensors that changed."""

    norms: tuple[str, ...]
    weights: tuple[str, ...]


def fold_norms(model: ir.Model) -> Folded:
    """Fold, in place, every BatchNormalization that alone reads a Conv, ConvTranspose or Gemm.

    ``W' = W * gamma / sqrt(var + eps)`` per output, ``b' = (b - mean) * gamma / sqrt(var + eps) +
    beta``, in float64, as onnxruntime's optimiser does at load. The result keeps the name of the
    norm's, the weight its own name; a weight that others read too is copied. Nodes in bodies and
    norms in training mode stay.
    """
    norms, weights = [], []
    for node in list(model.graph):
        layer = _layer_before(node)
        if layer is None:
            continue
        parts = _parts(node, layer)
        if parts is None:
            continue
        weights.append(_fold(model.graph, node, layer, *parts))
        norms.append(str(node.name))
    return Folded(tuple(norms), tuple(weights))


def _layer_before(node: ir.Node) -> ir.Node | None:
    """The layer that a norm can be folded into, or None."""
    if op_key(node) != "BatchNormalization" or attribute(node, "training_mode", 0):
        return None
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return None
    value = node.inputs[0]
    layer = None if value is None else value.producer()
    if value is None or layer is None or value.is_graph_output() or len(list(value.uses())) != 1:
        return None
    fits = op_key(layer) in ("Conv", "ConvTranspose", "Gemm") and layer.graph is node.graph
    return layer if fits else None


def _parts(node: ir.Node, layer: ir.Node) -> tuple[FloatArray, FloatArray, ir.Value] | None:
    """Factor and new bias per output, (M,) each, and the weight; None: not all are stored."""
    held = [literal(value) for value in node.inputs[1:5]]
    weight = layer.inputs[1]
    tensor = literal(weight)
    if weight is None or tensor is None or any(part is None for part in held):
        return None
    scale, shift, mean, variance = (np.asarray(part, np.float64) for part in held)
    if op_key(layer) == "Gemm" and attribute(layer, "alpha", 1.0) != 1.0:
        return None
    bias = np.zeros(len(scale))
    if len(layer.inputs) > 2 and layer.inputs[2] is not None:
        stored = literal(layer.inputs[2])
        if stored is None or stored.size not in (1, len(scale)):
            return None
        old = np.asarray(stored, np.float64).reshape(-1) * float(attribute(layer, "beta", 1.0))
        bias = np.broadcast_to(old, scale.shape)
    factor = scale / np.sqrt(variance + float(attribute(node, "epsilon", EPSILON)))
    finite = np.isfinite(factor).all() and np.isfinite(shift - mean * factor).all()
    return (factor, (bias - mean) * factor + shift, weight) if finite else None


def _fold(
    graph: ir.Graph,
    node: ir.Node,
    layer: ir.Node,
    factor: FloatArray,
    shift: FloatArray,
    weight: ir.Value,
) -> str:
    array = literal(weight)
    assert array is not None
    scaled = array.astype(np.float64) * outputs_factor(layer, factor, array.shape)
    own = store(graph, weight, scaled.astype(array.dtype), layer)
    name = f"{own.name}.bias"
    old = layer.inputs[2] if len(layer.inputs) > 2 else None
    name = str(old.name) if old is not None and _only(old, layer) else unused(graph, name)
    bias = new_initializer(graph, name, shift.astype(array.dtype))
    layer.resize_inputs(3)
    layer.replace_input_with(1, own)
    layer.replace_input_with(2, bias)
    if "beta" in layer.attributes:
        del layer.attributes["beta"]
    _hand_over(node, layer)
    return str(own.name)


def outputs_factor(layer: ir.Node, factor: FloatArray, shape: Sequence[int]) -> FloatArray:
    """`factor` (M,) in a shape that broadcasts with the layer's weight.

    With groups the weight of a ConvTranspose, (C, M / g, *K), has the outputs of group k in the
    rows of that group: the factor is a matrix over both axes then.
    """
    rank = len(shape)
    if op_key(layer) == "Conv":
        return factor.reshape(-1, *[1] * (rank - 1))
    if op_key(layer) == "Gemm":
        return factor[:, None] if attribute(layer, "transB", 0) else factor[None, :]
    groups = int(attribute(layer, "group", 1))
    rows = np.repeat(factor.reshape(groups, -1), shape[0] // groups, axis=0)
    return rows.reshape(*rows.shape, *[1] * (rank - 2))


def _only(value: ir.Value, node: ir.Node) -> bool:
    """Whether a stored tensor is read once, by this node, and is no input or output."""
    readers = [user for user, _ in value.uses()]
    plain = not value.is_graph_input() and not value.is_graph_output()
    return plain and value.is_initializer() and readers == [node]


def store(graph: ir.Graph, value: ir.Value, array: NDArray[Any], node: ir.Node) -> ir.Value:
    """An initializer with new contents: of the same name where only `node` reads the old one."""
    name = str(value.name) if _only(value, node) else unused(graph, f"{value.name}.{node.name}")
    return new_initializer(graph, name, array)


def new_initializer(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """Store a tensor under a name; one of that name is replaced, its readers must be moved."""
    if name in graph.initializers:
        graph.initializers[name].name = unused(graph, f"{name}.replaced")
    dtype = ir.DataType.from_numpy(array.dtype)
    # Not ascontiguousarray, which makes vectors of scalars.
    tensor = ir.Tensor(array.copy(order="C"), dtype=dtype, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def unused(graph: ir.Graph, stem: str) -> str:
    """A name that no value of the graph has."""
    taken = {v.name for v in graph.inputs} | set(graph.initializers)
    taken |= {v.name for node in graph for v in node.outputs}
    name, number = stem, 1
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    return name


def _hand_over(node: ir.Node, layer: ir.Node) -> None:
    """The layer makes what the norm made, under the norm's name; the norm goes."""
    made, was = node.outputs[0], layer.outputs[0]
    graph = layer.graph
    assert graph is not None
    name, shape, kind = made.name, made.shape, made.type
    for position, value in enumerate(graph.outputs):
        if value is made:
            graph.outputs[position] = was
    made.replace_all_uses_with(was)
    graph.remove(node, safe=True)
    made.name = None
    was.name, was.shape, was.type = name, shape, kind

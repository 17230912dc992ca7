"""Weights that are computed from other weights: stored as what they come to, where that helps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.diagnostics import Diagnostic, Severity
from prunec.compiler.literals import literal
from prunec.compiler.walk import bodies
from prunec.frontends.origin import origin_of, set_origin

# What makes one number of a weight from many, or writes to places in it: then no channel of it
# could leave, although the weight itself, once computed, can lose any.
MIXING = frozenset(
    [
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "CumSum",
        "Einsum",
        "Gemm",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "LogSoftmax",
        "LpNormalization",
        "MatMul",
        "MeanVarianceNormalization",
        "RMSNormalization",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Scatter",
        "ScatterElements",
        "ScatterND",
        "Softmax",
        "TopK",
        "Trilu",
    ]
)
# The result is no number of the type of the first input.
_OTHER_TYPE = frozenset(
    [
        "And",
        "ArgMax",
        "ArgMin",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "IsInf",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "NonZero",
        "Not",
        "Or",
        "QuantizeLinear",
        "DynamicQuantizeLinear",
        "Shape",
        "Size",
        "Xor",
    ]
)
_RANDOM = frozenset(
    [
        "Bernoulli",
        "Dropout",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    ]
)
GROWTH = 4  # a result may be this much larger than what it is made of
KEPT_BYTES = 2**16  # smaller results are computed once
# The node stays, and what it computes is coupled like an activation.
_REFUSED = (
    ir.serde.SerdeError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
)


def folded(model: ir.Model) -> ir.Model:
    """A model whose weights are stored where they were computed by mixing stored tensors.

    Weight and spectral normalisation, standardised weights, products of factors, one vector that
    holds a whole weight. What moves or scales numbers one by one stays computed, so that it can
    still be trained. Leaves a note for each; returns `model` if nothing applies.
    """
    targets = [value.name for value in _targets(model.graph)]
    if not targets:
        return model
    copy = model.clone()
    made = {value.name: value for node in copy.graph for value in node.outputs}
    notes = []
    for name in targets:
        value = made[name]
        try:
            cone = _Cone.of(copy, value)
        except _REFUSED:
            continue
        result = cone.compute()
        if result is None or result.nbytes > GROWTH * cone.bytes + KEPT_BYTES:
            continue
        node = value.producer()
        assert node is not None
        notes.append(_note(str(name), node, cone))
        _store(copy.graph, value, result, cone)
    _sweep(copy.graph)
    origin = origin_of(copy)
    set_origin(copy, replace(origin, notes=(*origin.notes, *notes)))
    return copy if notes else model


def _note(name: str, node: ir.Node, cone: _Cone) -> Diagnostic:
    parts = ", ".join(cone.sources[:3]) + (", ..." if len(cone.sources) > 3 else "")
    text = f"weight {name!r}, computed from {parts}, is stored as the result in the written model"
    return Diagnostic("folded", node.name or "", text, Severity.INFO)


def _targets(graph: ir.Graph) -> Iterator[ir.Value]:
    """Constant floats that a mixing operator is behind, where something not constant reads them."""
    fixed = {v for v in graph.initializers.values() if not v.is_graph_input()}
    floats = {v for v in fixed if v.const_value and v.const_value.dtype.is_floating_point()}
    mixed: set[ir.Value] = set()
    for node in graph:
        ins = [v for v in node.inputs if v is not None]
        if node.domain or node.op_type in _RANDOM or bodies(node):
            continue
        if not all(v in fixed for v in ins) or not (ins or node.op_type == "Constant"):
            continue
        fixed.update(node.outputs)
        if _gives_floats(node, floats):
            floats.update(node.outputs)
            if any(v in mixed for v in ins) or _mixes(node):
                mixed.update(node.outputs)
    for node in graph:
        for value in node.outputs:
            readers = {user for user, _ in value.uses()}
            leaves = value.is_graph_output() or any(
                user.graph is not graph or any(v not in fixed for v in user.outputs)
                for user in readers
            )
            if value in mixed and readers and leaves and not value.is_graph_output():
                yield value


def _gives_floats(node: ir.Node, floats: set[ir.Value]) -> bool:
    if node.op_type == "Cast":
        return ir.DataType(attribute(node, "to")).is_floating_point()
    if node.op_type == "Constant":
        held = next(iter(node.attributes.values()), None)
        if held is None or held.is_ref():
            return False
        if held.name == "value":
            return bool(held.value.dtype.is_floating_point())
        return held.name in ("value_float", "value_floats")
    return node.op_type not in _OTHER_TYPE and bool(node.inputs) and node.inputs[0] in floats


def _mixes(node: ir.Node) -> bool:
    if node.op_type == "Reshape" and node.inputs[0] is not None and node.inputs[1] is not None:
        # One long vector has no axis of its own for the channels that it is split into.
        return _rank(node.inputs[0]) == 1 and _long_axes(node.inputs[1]) > 1
    return node.op_type in MIXING


def _rank(value: ir.Value) -> int | None:
    if value.const_value is not None:
        return len(value.const_value.shape)
    node = value.producer()
    if node is not None and node.op_type == "Constant":
        held = next(iter(node.attributes.values()), None)
        is_tensor = held is not None and held.type is ir.AttributeType.TENSOR
        return len(held.value.shape) if held is not None and is_tensor else 1
    if node is not None and node.op_type in ("Cast", "Identity", "Slice", "Split"):
        return None if node.inputs[0] is None else _rank(node.inputs[0])
    return None if value.shape is None else value.shape.rank()


def _long_axes(value: ir.Value) -> int:
    """How many axes a Reshape to these sizes makes that can have several positions."""
    sizes = literal(value)
    return 0 if sizes is None else int((sizes.reshape(-1) != 1).sum())


@dataclass(frozen=True, slots=True, eq=False)
class _Cone:
    """The nodes that make a value from stored tensors. bytes: of those tensors."""

    proto: onnx.ModelProto
    feeds: Mapping[str, ir.TensorProtocol]
    sources: Sequence[str]
    bytes: int

    @classmethod
    def of(cls, model: ir.Model, value: ir.Value) -> _Cone:
        inside: set[ir.Node] = set()
        feeds: dict[str, ir.TensorProtocol] = {}
        pending = [value]
        while pending:
            at = pending.pop()
            node = at.producer()
            if node is None:
                assert at.const_value is not None, at.name
                feeds[str(at.name)] = at.const_value
            elif node not in inside:
                inside.add(node)
                pending.extend(v for v in node.inputs if v is not None)
        inputs = [
            onnx.helper.make_tensor_value_info(name, int(t.dtype), t.shape.numpy())
            for name, t in feeds.items()
        ]
        graph = onnx.helper.make_graph(
            [ir.serde.serialize_node(node) for node in model.graph if node in inside],
            "weight",
            inputs,
            [onnx.helper.make_value_info(str(value.name), onnx.TypeProto())],
        )
        imports = [onnx.helper.make_opsetid(d, v) for d, v in model.opset_imports.items()]
        proto = onnx.helper.make_model(graph, opset_imports=imports)
        floats = {name for name, t in feeds.items() if t.dtype.is_floating_point()}
        floats |= {str(n.outputs[0].name) for n in inside if n.op_type == "Constant"} - {*feeds}
        return cls(proto, feeds, sorted(floats), sum(t.nbytes for t in feeds.values()))

    def compute(self) -> np.ndarray[Any, Any] | None:
        """The value; None where onnx's reference implementation can't tell."""
        from onnx.reference import ReferenceEvaluator

        try:
            feeds = {name: tensor.numpy() for name, tensor in self.feeds.items()}
            with np.errstate(all="ignore"):
                (result,) = ReferenceEvaluator(self.proto).run(None, feeds)
        except _REFUSED:
            return None
        return result if isinstance(result, np.ndarray) else None


def _store(graph: ir.Graph, value: ir.Value, result: np.ndarray[Any, Any], cone: _Cone) -> None:
    """Put a stored tensor in the place of a computed value; it keeps the name."""
    name, dtype = str(value.name), ir.DataType.from_numpy(result.dtype)
    shape = ir.Shape(result.shape)
    value.name = f"{name}.computed"
    tensor: ir.TensorProtocol = ir.Tensor(result, dtype=dtype, name=name)
    if math.prod(result.shape) * result.itemsize > KEPT_BYTES:
        again = partial(_again, cone, dtype, name)
        tensor = ir.LazyTensor(again, dtype=dtype, shape=shape, name=name)
    stored = ir.Value(name=name, const_value=tensor)
    stored.shape, stored.type = shape, ir.TensorType(dtype)
    graph.register_initializer(stored)
    value.replace_all_uses_with(stored)


def _again(cone: _Cone, dtype: ir.DataType, name: str) -> ir.Tensor[Any]:
    result = cone.compute()
    assert result is not None, name
    return ir.Tensor(np.ascontiguousarray(result), dtype=dtype, name=name)


def _sweep(graph: ir.Graph) -> None:
    """Remove the nodes and stored tensors that made what is stored now."""
    freed: set[ir.Value] = set()
    for node in reversed(list(graph)):
        unread = all(not v.uses() and not v.is_graph_output() for v in node.outputs)
        was_cone = any(v in freed or str(v.name).endswith(".computed") for v in node.outputs)
        if unread and was_cone:
            freed.update(v for v in node.inputs if v is not None)
            graph.remove(node, safe=True)
    for value in freed:
        if value.is_initializer() and not value.uses() and not value.is_graph_output():
            del graph.initializers[str(value.name)]

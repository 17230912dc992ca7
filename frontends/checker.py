"""The ONNX checker on a model of any size: weights are declared, not copied."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError

from prunec.compiler.errors import ModelError, first_line
from prunec.compiler.rules.stays import EXPERIMENTS
from prunec.frontends.contrib import set_apart
from prunec.frontends.skeleton import frame
from prunec.frontends.structure import DEFAULT_DOMAINS, graphs_of

SMALL_ELEMENTS = 1024
FREE_INITIALIZERS_SINCE = 4  # IR version from which initializers need not be graph inputs too
OLD_OPERATORS = "prunec.old"
_REFUSED = (
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    ValueError,
    RuntimeError,
    EncodeError,
)


def check_file(model: onnx.ModelProto, lifted: Collection[int], label: str) -> None:
    """Run `onnx.checker` on a model as it came. Raises ModelError with its first line.

    lifted: initializers whose contents are not in the proto; they are declared as graph inputs.
    What onnxruntime runs although the checker refuses it passes: graph outputs without a shape,
    initializers of old files that are no inputs, operators that the standard has dropped.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    given = {value.name for value in proto.graph.input}
    for index in lifted:
        tensor = proto.graph.initializer[index]
        if tensor.name not in given:
            _declare(proto.graph, tensor.name, tensor.data_type, tensor.dims)
    held = onnx.GraphProto()
    held.initializer.extend(t for k, t in enumerate(proto.graph.initializer) if k not in lifted)
    proto.graph.ClearField("initializer")
    proto.graph.initializer.extend(held.initializer)
    _set_all_apart(proto)
    _complete_types(proto.graph)
    try:
        onnx.checker.check_model(proto)
    except _REFUSED as error:
        raise ModelError(f"{label}: {first_line(error)}") from error


def check_fully(model: ir.Model) -> None:
    """Run `onnx.checker` with strict shape inference. Raises ModelError with its first line.

    Weights above SMALL_ELEMENTS elements stand in as inputs of their type and shape; smaller
    tensors, which shape inference may need, are given whole.
    """
    proto = frame(model)
    graph = proto.graph
    given = {value.name for value in graph.input}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None:
            continue
        if tensor.size <= SMALL_ELEMENTS:
            small = ir.to_proto(ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name))
            graph.initializer.append(small)
        elif name not in given:
            _declare(graph, name, int(tensor.dtype), tensor.shape.numpy())
    _set_all_apart(proto)
    try:
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
        _complete_types(graph)
        onnx.checker.check_model(proto)
    except _REFUSED as error:
        raise ModelError(f"onnx.checker: {first_line(error)}") from error


def _declare(graph: onnx.GraphProto, name: str, element: int, dims: Iterable[int]) -> None:
    graph.input.append(onnx.helper.make_tensor_value_info(name, element, list(dims)))


def _set_all_apart(proto: onnx.ModelProto) -> None:
    """Put operators that the checker does not know into domains that it does not look at."""
    set_apart(proto)
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    version = next((versions[d] for d in DEFAULT_DOMAINS if d in versions), 1)
    found = [n for g in graphs_of(proto) for n in g.node if _is_dropped(n, version)]
    for node in found:
        node.domain = OLD_OPERATORS
    if found:
        proto.opset_import.append(onnx.helper.make_opsetid(OLD_OPERATORS, 1))
    proto.ir_version = max(proto.ir_version, FREE_INITIALIZERS_SINCE)


def _is_dropped(node: onnx.NodeProto, version: int) -> bool:
    # Text that is not UTF-8 comes as bytes.
    if node.domain not in DEFAULT_DOMAINS or not isinstance(node.op_type, str):
        return False
    if not onnx.defs.has(node.op_type, version, ""):
        return node.op_type in EXPERIMENTS
    return bool(onnx.defs.get_schema(node.op_type, version, "").deprecated)


def _complete_types(graph: onnx.GraphProto) -> None:
    """Let inputs and outputs without a shape, and outputs without a type, pass: they are legal
    inside a model (IR specification, "Graphs"), and onnxruntime infers them."""
    for value in graph.output:
        if value.type.WhichOneof("value") is None:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for value in (*graph.input, *graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()

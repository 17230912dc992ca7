"""The ONNX checker on a model of any size: weights are declared, not copied."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError

from prunec.compiler.errors import ModelError
from prunec.frontends.skeleton import frame

SMALL_ELEMENTS = 1024


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
            shape = tensor.shape.numpy()
            graph.input.append(onnx.helper.make_tensor_value_info(name, int(tensor.dtype), shape))
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,
        RuntimeError,
        EncodeError,
    ) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ModelError(f"onnx.checker: {lines[0] if lines else error}") from error

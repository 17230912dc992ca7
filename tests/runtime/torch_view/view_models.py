"""Models of a few nodes, written out."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model_of(*nodes: onnx.NodeProto, **stored: np.ndarray) -> onnx.ModelProto:
    """A model of one input x (N, 4) and one output y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    kept = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(list(nodes), "g", [x], [onnx.ValueInfoProto(name="y")], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def node(op: str, inputs: str, output: str, **attrs: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), output.split(), name=f"the_{op}", **attrs)

"""Small models that the frontend tests share."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FloatArray = NDArray[np.float32]


def weights(*shape: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv_relu(channels: int = 16, batch: int | str = "N") -> onnx.ModelProto:
    """Conv (weights above a kilobyte), Relu, Conv, with docs and metadata everywhere."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["h"], name="first", doc_string="a node"),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Conv", ["a", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4, 4, 4])],
        [
            numpy_helper.from_array(weights(channels, 3, 3, 3), "w1"),
            numpy_helper.from_array(weights(channels), "b1"),
            numpy_helper.from_array(weights(4, channels, 3, 3, seed=1), "w2"),
        ],
        doc_string="a graph",
    )
    return finish(graph)


def finish(graph: onnx.GraphProto, opset: int = 17) -> onnx.ModelProto:
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        producer_name="tests",
        producer_version="1",
        doc_string="a model",
        ir_version=8,
    )
    helper.set_model_props(model, {"author": "prunec"})
    return model


def chain(*nodes: onnx.NodeProto, shape: tuple[int | str, ...] = (1, 4)) -> onnx.ModelProto:
    """A model from x to y without weights; `nodes` may be illegal."""
    graph = helper.make_graph(
        list(nodes),
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M", "K"])],
    )
    return finish(graph)

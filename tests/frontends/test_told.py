"""Weights tell sizes of inputs that the model does not declare."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from frontend_models import finish
from onnx import TensorProto, helper, numpy_helper

from prunec.frontends.onnx import load
from prunec.frontends.shapes import infer_facts


def net(*nodes: onnx.NodeProto, shape: list[Any] | None = None, **stored: Any) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(dims, np.float32), name) for name, dims in stored.items()],
    )
    return finish(graph)


node = helper.make_node
CASES = {
    "conv": (net(node("Conv", ["x", "w"], ["y"]), w=(4, 3, 1, 1)), (1, 3, 64, 64)),
    "groups": (net(node("Conv", ["x", "w"], ["y"], group=2), w=(4, 3, 1)), (1, 6, 16)),
    "deconv": (net(node("ConvTranspose", ["x", "w"], ["y"]), w=(5, 3, 1, 1)), (1, 5, 64, 64)),
    "gemm": (net(node("Gemm", ["x", "w"], ["y"], transB=1), w=(4, 7)), (1, 7)),
    "product": (net(node("MatMul", ["x", "w"], ["y"]), w=(7, 4)), (1, 7)),
    "channels last": (
        net(
            node("Relu", ["x"], ["r"]),
            node("Transpose", ["r"], ["t"], perm=[0, 3, 1, 2]),
            node("Conv", ["t", "w"], ["y"]),
            w=(4, 3, 1, 1),
        ),
        (1, 16, 64, 3),
    ),
    "a symbol": (
        net(node("Conv", ["x", "w"], ["y"]), shape=["n", "c", "h", 8], w=(4, 3, 1, 1)),
        (1, 3, 64, 8),
    ),
    "a product of rank 3": (
        net(node("MatMul", ["x", "w"], ["y"]), shape=["n", "t", "c"], w=(7, 4)),
        (1, 16, 7),
    ),
    "behind a copy": (
        net(
            node("Identity", ["w"], ["i"]),
            node("Cast", ["i"], ["k"], to=1),
            node("Conv", ["x", "k"], ["y"]),
            w=(4, 3, 1, 1),
        ),
        (1, 3, 64, 64),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_first_weight_tells_rank_and_size(case: str) -> None:
    model, shape = CASES[case]
    assert infer_facts(load(model)).shapes["x"] == shape


def test_what_is_given_comes_first() -> None:
    model, _ = CASES["conv"]
    assert infer_facts(load(model), {"x": (2, 3, 5, 5)}).shapes["y"] == (2, 4, 5, 5)


def test_nothing_is_told_where_no_weight_is_near() -> None:
    assert "x" not in infer_facts(load(net(node("Softmax", ["x"], ["y"])))).shapes

"""A small classifier and its data, shared by the runtime tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.frontends.onnx import load


@pytest.fixture
def model() -> ir.Model:
    """The small classifier at opset 17."""
    return _build(opset=17)


@pytest.fixture
def build() -> Callable[..., ir.Model]:
    """Make the small classifier at another opset, or with an initializer that nobody reads."""
    return _build


def _build(opset: int, dead: bool = False) -> ir.Model:
    """image (batch, 3, 8, 8) -> Conv(4) -> "hidden" -> Relu -> "fires" -> mean -> logits."""
    rng = np.random.default_rng(0)
    weights = {
        "conv.weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "conv.bias": np.array([0.5, -9, 0, 0.2], np.float32),  # channel 1 never fires
        "fc.weight": rng.standard_normal((6, 4)).astype(np.float32),
    }
    if dead:
        weights["unused"] = np.ones(3, np.float32)
    nodes = [
        helper.make_node(
            "Conv", ["image", "conv.weight", "conv.bias"], ["hidden"], "conv", pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["hidden"], ["fires"], "relu"),
        helper.make_node("GlobalAveragePool", ["fires"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "fc.weight"], ["logits"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 6])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    proto.ir_version = 9
    return load(proto)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((10, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def archive(tmp_path: Path, images: np.ndarray) -> Path:
    """An .npz of ten labelled samples."""
    path = tmp_path / "samples.npz"
    np.savez(path, image=images, labels=np.arange(10) % 6)
    return path

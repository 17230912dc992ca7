"""A network of two layers in which half of the channels say nothing, and data for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("torch")
pytest.importorskip("accelerate")

CLASSES, WIDE = 4, 8


def net(batch: int | str = "N") -> onnx.ModelProto:
    """x (N, 3, 4, 4) -> Conv 8 -> Relu -> Conv 8 -> BatchNorm -> Relu -> pool -> Gemm -> logits.

    Of the first layer's channels the even ones are read by nobody to speak of.
    """
    rng = np.random.default_rng(0)
    node = helper.make_node
    second = rng.standard_normal((WIDE, WIDE, 3, 3)) * 0.3
    second[:, ::2] *= 1e-3
    weights = {
        "w1": rng.standard_normal((WIDE, 3, 3, 3)) * 0.4,
        "w2": second,
        "g": np.ones(WIDE),
        "s": np.zeros(WIDE),
        "m": np.zeros(WIDE),
        "v": np.ones(WIDE),
        "fc": rng.standard_normal((CLASSES, WIDE)) * 0.8,
    }
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1], name="first"),
        node("Relu", ["c1"], ["r1"], name="relu1"),
        node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], name="second"),
        node("BatchNormalization", ["c2", "g", "s", "m", "v"], ["n"], name="norm"),
        node("Relu", ["n"], ["r2"], name="relu2"),
        node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        node("Flatten", ["p"], ["f"], name="flat"),
        node("Gemm", ["f", "fc"], ["y"], transB=1, name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (batch, 3, 4, 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (batch, CLASSES))],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """The network as a file."""
    path = tmp_path / "net.onnx"
    onnx.save(net(), path)
    return path


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    """The same with a fixed batch of 4."""
    path = tmp_path / "fixed.onnx"
    onnx.save(net(4), path)
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """64 images, with labels."""
    rng = np.random.default_rng(1)
    path = tmp_path / "labelled.npz"
    images = rng.standard_normal((64, 3, 4, 4)).astype(np.float32)
    np.savez(path, x=images, labels=rng.integers(0, CLASSES, 64))
    return path


@pytest.fixture
def plain(tmp_path: Path, labelled: Path) -> Path:
    """The same images without labels."""
    path = tmp_path / "plain.npz"
    with np.load(labelled) as data:
        np.savez(path, x=data["x"])
    return path

"""Graphs as other converters write them: pruned and proven as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from row_nets import Net, prune

ort = pytest.importorskip("onnxruntime")

TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def test_channels_last_with_transpositions_around_each_convolution() -> None:
    """tf2onnx of a Keras model."""
    prefix = "StatefulPartitionedCall/model/"
    net = Net(13, ["unk__1", 16, 16, 3])

    def layer(x: str, name: str, out: int, channels: int) -> str:
        stem = f"{prefix}{name}"
        net.add("Transpose", [x], [f"{stem}__6:0"], perm=TO_NCHW)
        weight = net.weight(f"{stem}/Conv2D/ReadVariableOp:0", out, channels, 3, 3)
        bias = net.weight(f"{stem}/bias:0", out)
        net.add("Conv", [f"{stem}__6:0", weight, bias], [f"{stem}/c:0"], auto_pad="SAME_UPPER")
        net.add("Transpose", [f"{stem}/c:0"], [f"{stem}/BiasAdd:0"], perm=TO_NHWC)
        net.add("Identity", [f"{stem}/BiasAdd:0"], [f"{stem}/Identity:0"])
        return net.add("Relu", [f"{stem}/Identity:0"], [f"{stem}/Relu:0"])

    pads = net.store("pads", np.array([0, 0, 0, 0, 0, 1, 1, 0]))
    first = net.add("Pad", [layer("x", "one", 8, 3), pads], ["padded:0"])
    scaled = net.add("Mul", [layer(first, "two", 12, 8), net.weight("gamma:0", 12)], ["bn:0"])
    net.add("ReduceMean", [scaled], ["pooled:0"], axes=[1, 2], keepdims=0)
    net.add("MatMul", ["pooled:0", net.weight("dense:0", 12, 5)], ["mm:0"])
    net.add("Add", ["mm:0", net.weight("b:0", 5)], ["Identity:0"])
    kept, result = prune(net.model("Identity:0", ["unk__1", 5]), "flops=0.5")
    result.require()
    assert len(kept) == 2


def test_constants_behind_copies_and_shapes_cast_back_and_forth() -> None:
    """paddle2onnx."""
    net = Net(11, ["DynamicDimension.0", 3, 8, 8])

    def stored(name: str, array: Any) -> str:
        net.add("Constant", [], [f"{name}_raw"], value=numpy_helper.from_array(np.asarray(array)))
        return net.add("Identity", [f"{name}_raw"], [name])

    def random(name: str, *shape: int) -> str:
        return stored(name, net.rng.standard_normal(shape).astype(np.float32))

    net.add("Conv", ["x", random("conv2d_0.w_0", 8, 3, 1, 1)], ["p2o.Conv.0"])
    bias = net.add(
        "Reshape", [random("b_0", 8), stored("s", np.array([1, -1, 1, 1]))], ["p2o.Reshape.0"]
    )
    net.add("Relu", [net.add("Add", ["p2o.Conv.0", bias], ["p2o.Add.0"])], ["p2o.Relu.0"])
    net.add("GlobalAveragePool", ["p2o.Relu.0"], ["pool"])
    net.add("Shape", ["pool"], ["shape"])
    zero, one = stored("zero", np.array([0])), stored("one", np.array([1]))
    net.add("Slice", ["shape", zero, one, stored("axis", np.array([0]))], ["batch"])
    net.add("Cast", [net.add("Cast", ["batch"], ["b32"], to=6)], ["b64"], to=7)
    net.add("Concat", ["b64", stored("rest", np.array([-1]))], ["sizes"], axis=0)
    net.add("Reshape", ["pool", "sizes"], ["flat"])
    net.add("MatMul", ["flat", random("fc_0.w_0", 8, 4)], ["y"])
    kept, result = prune(net.model("y", ["DynamicDimension.0", 4]), "flops=0.5")
    result.require()
    assert list(kept) == ["conv2d_0.w_0_raw:0"]


@pytest.mark.parametrize("name", ["a b", "q\"'`", "/é:0", "日本語", "%s{}\\", "-"])
def test_names_of_any_characters(name: str) -> None:
    net = Net(13, [1, 3, 4, 4])
    y = net.conv(net.add("Relu", [net.conv("x", name, 8, 3)], [f"{name} r"]), "y", 2, 8)
    kept, result = prune(net.model(y, [1, 2, 4, 4]), "flops=0.5")
    result.require()
    assert kept == {f"{name}.w:0": 4}


@pytest.mark.parametrize("names", ["", "node"])
def test_nodes_without_names_of_their_own(names: str) -> None:
    net = Net(13, [1, 3, 4, 4])
    y = net.conv(net.add("Relu", [net.conv("x", "a", 8, 3)], ["r"]), "b", 2, 8)
    model = net.model(y, [1, 2, 4, 4])
    for node in model.graph.node:
        node.name = names
    kept, result = prune(model, "flops=0.5")
    result.require()
    assert kept == {"a.w:0": 4}


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"])
def test_files_that_onnxruntime_optimised(tmp_path: Path, level: str) -> None:
    net = Net(17, [1, 3, 4, 4])
    net.add("Relu", [net.conv("x", "a", 8, 3)], ["r"])
    stored = [net.store(f"s{k}", np.full(8, k + 1, np.float32)) for k in range(4)]
    net.add("BatchNormalization", ["r", *stored], ["n"])
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    model = net.model(net.conv("n", "b", 2, 8), [1, 2, 4, 4])
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kept, result = prune(onnx.load(options.optimized_model_filepath), "flops=0.5")
    result.require()
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("op", "about"),
    [
        ("Scaler", {"offset": [0.0] * 6, "scale": [1.0] * 6}),
        ("Normalizer", {"norm": "L2"}),
        ("Binarizer", {"threshold": 0.5}),
        ("Imputer", {"imputed_value_floats": [0.0], "replaced_value_float": 9.0}),
    ],
)
def test_a_network_behind_an_operator_of_scikit_learn(op: str, about: dict[str, Any]) -> None:
    net = Net(13, ["n", 6])
    net.nodes.append(helper.make_node(op, ["x"], ["s"], domain="ai.onnx.ml", **about))
    net.add("MatMul", ["s", net.weight("m1", 6, 8)], ["h"])
    net.add("MatMul", [net.add("Relu", ["h"], ["r"]), net.weight("m2", 8, 3)], ["y"])
    model = net.model("y", ["n", 3])
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    kept, result = prune(model, "flops=0.5")
    result.require()
    assert kept == {"m1:1": 4}

"""Channels that leave without loss."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.frontends.onnx import load, to_proto
from prunec.passes.apply import prune
from prunec.passes.regroup.dead import live_groups
from prunec.runtime.session import make_session
from prunec.runtime.subject import open_model

pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(0)
Weights = dict[str, np.ndarray]


def chain(between: tuple[str, ...] = ("Relu",)) -> tuple[onnx.ModelProto, Weights]:
    """Conv 3 -> 8 with bias, BatchNorm, activations, Conv 8 -> 6, Relu, Conv 6 -> 4."""
    weights: Weights = {
        "w1": RNG.standard_normal((8, 3, 3, 3)),
        "b1": RNG.standard_normal(8),
        "scale": RNG.uniform(0.5, 2, 8),
        "shift": RNG.standard_normal(8),
        "mean": RNG.standard_normal(8),
        "variance": RNG.uniform(0.5, 2, 8),
        "w2": RNG.standard_normal((6, 8, 3, 3)),
        "b2": RNG.standard_normal(6),
        "w3": RNG.standard_normal((4, 6, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["y1"], "c1", pads=[1] * 4),
        helper.make_node(
            "BatchNormalization", ["y1", "scale", "shift", "mean", "variance"], ["n"], "norm"
        ),
    ]
    now = "n"
    for k, op in enumerate(between):
        nodes.append(helper.make_node(op, [now], [f"a{k}"], f"a{k}"))
        now = f"a{k}"
    nodes += [
        helper.make_node("Conv", [now, "w2", "b2"], ["y2"], "c2", pads=[1] * 4),
        helper.make_node("Relu", ["y2"], ["r2"], "r2"),
        helper.make_node("Conv", ["r2", "w3"], ["y"], "c3"),
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, 8, 8))],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ), weights


def finished(model: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    for name, array in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return model


def kept(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Weight -> kept rows; the slim model gives the same outputs."""
    subject = open_model(load(model))
    mask = live_groups(subject.model, subject.facts, subject.graph)
    slim = prune(subject.model, subject.facts, subject.graph, mask)
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    first, second = (
        make_session(m.SerializeToString(), optimise=False).run(feeds)
        for m in (model, to_proto(slim))
    )
    for a, b in zip(first, second, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()
    return {
        name: np.flatnonzero(mask[groups]).tolist()
        for (name, axis), groups in subject.graph.axes.items()
        if axis == 0 and name.startswith("w")
    }


def test_nothing_leaves_a_model_without_zeros() -> None:
    assert kept(finished(*chain())) == {"w1": list(range(8)), "w2": list(range(6))}


def test_zero_row_with_zero_bias_and_norm() -> None:
    model, w = chain()
    for name in ("w1", "b1", "shift", "mean"):
        w[name][[2, 5]] = 0
    assert kept(finished(model, w))["w1"] == [0, 1, 3, 4, 6, 7]


def test_zero_row_whose_norm_shifts_it_below_a_relu() -> None:
    model, w = chain()
    w["w1"][[2, 5]] = w["b1"][[2, 5]] = w["mean"][[2, 5]] = 0
    w["shift"][2], w["shift"][5] = -1, 1
    assert kept(finished(model, w))["w1"] == [0, 1, 3, 4, 5, 6, 7]


def test_zero_scale_of_a_norm() -> None:
    model, w = chain()
    w["scale"][3] = w["shift"][3] = 0
    assert kept(finished(model, w))["w1"] == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize(("op", "leaves"), [("Tanh", True), ("Sigmoid", False), ("Exp", False)])
def test_only_what_keeps_zero_keeps_it(op: str, leaves: bool) -> None:
    model, w = chain((op,))
    w["scale"][3] = w["shift"][3] = 0
    assert (3 not in kept(finished(model, w))["w1"]) == leaves


def test_column_that_is_zero_for_all_consumers() -> None:
    model, w = chain()
    w["w2"][:, [0, 7]] = 0
    assert kept(finished(model, w))["w1"] == [1, 2, 3, 4, 5, 6]


def test_column_that_only_dead_rows_read() -> None:
    """Output 1 of the second convolution is read by no one, so what only it reads leaves too."""
    model, w = chain()
    w["w3"][:, 1] = 0
    w["w2"][[0, 2, 3, 4, 5], 6] = 0
    assert kept(finished(model, w)) == {"w1": [0, 1, 2, 3, 4, 5, 7], "w2": [0, 2, 3, 4, 5]}


def test_a_layer_keeps_one_channel() -> None:
    model, w = chain()
    w["w2"][:] = 0
    assert len(kept(finished(model, w))["w1"]) == 1

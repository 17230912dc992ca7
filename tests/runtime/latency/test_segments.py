"""How a network is cut into parts that are timed, and what makes two parts alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.runtime.latency.segments import Segment, segments
from prunec.runtime.subject import open_model
from prunec.tools.demo import DIGITS


def net(nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    """image (1, 3, 8, 8) -> y."""
    rng = np.random.default_rng(0)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def conv(ins: list[str], out: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", ins, [out], f"node_{out}", **attributes)


def chain(a: int, b: int, prefix: str = "") -> onnx.ModelProto:
    """Conv(a) -> Relu -> Conv(b) -> Relu -> Conv(4)."""
    nodes = [
        conv(["image", f"{prefix}w0"], "c0"),
        helper.make_node("Relu", ["c0"], ["r0"]),
        conv(["r0", f"{prefix}w1"], "c1"),
        helper.make_node("Relu", ["c1"], ["r1"]),
        conv(["r1", f"{prefix}w2"], "y"),
    ]
    weights = {"w0": (a, 3, 1, 1), "w1": (b, a, 1, 1), "w2": (4, b, 1, 1)}
    return net(nodes, {prefix + name: shape for name, shape in weights.items()})


def cut(model: onnx.ModelProto) -> tuple[Segment, ...]:
    return segments(open_model(model))


def test_an_activation_belongs_to_the_convolution_before_it() -> None:
    first, second, last = cut(chain(8, 16))
    assert [first.nodes, second.nodes, last.nodes] == [(0, 1), (2, 3), (4,)]
    assert second.sizes((5, 7)) == (5, 7)


def test_keys_hold_neither_names_nor_the_dense_widths() -> None:
    a, b = cut(chain(8, 16)), cut(chain(32, 24, prefix="other."))
    assert [part.key for part in a] == [part.key for part in b]


def test_keys_differ_by_attributes_and_by_spatial_size() -> None:
    keys = {
        part.key
        for strides in ([1, 1], [2, 2])
        for part in cut(
            net(
                [
                    conv(["image", "w0"], "c0"),
                    conv(["c0", "w1"], "c1", strides=strides),
                    conv(["c1", "w2"], "y"),
                ],
                {"w0": (8, 3, 1, 1), "w1": (8, 8, 1, 1), "w2": (4, 8, 1, 1)},
            )
        )
    }
    assert len(keys) == 5  # only the first convolutions are alike


def test_depthwise_convolutions_of_other_widths_are_alike() -> None:
    def depthwise(width: int) -> onnx.ModelProto:
        return net(
            [
                conv(["image", "w0"], "c0"),
                conv(["c0", "w1"], "c1", group=width, pads=[1, 1, 1, 1]),
                conv(["c1", "w2"], "y"),
            ],
            {"w0": (width, 3, 1, 1), "w1": (width, 1, 3, 3), "w2": (4, width, 1, 1)},
        )

    first, second = cut(depthwise(8)), cut(depthwise(16))
    assert [part.key for part in first] == [part.key for part in second]
    assert "group=~" in first[1].key
    assert len(first[1].factors) == 1


def test_a_residual_addition_belongs_to_the_later_of_its_producers() -> None:
    nodes = [
        conv(["image", "w0"], "c0"),
        conv(["c0", "w1"], "c1"),
        helper.make_node("Add", ["c0", "c1"], ["s"]),
        conv(["s", "w2"], "y"),
    ]
    shapes = {"w0": (8, 3, 1, 1), "w1": (8, 8, 1, 1), "w2": (4, 8, 1, 1)}
    parts = cut(net(nodes, shapes))
    assert [part.nodes for part in parts] == [(0,), (1, 2), (3,)]


def test_a_concatenation_has_the_sum_as_its_size() -> None:
    nodes = [
        conv(["image", "w0"], "c0"),
        conv(["image", "w1"], "c1"),
        helper.make_node("Concat", ["c0", "c1"], ["s"], axis=1),
        conv(["s", "w2"], "y"),
    ]
    shapes = {"w0": (8, 3, 1, 1), "w1": (6, 3, 1, 1), "w2": (4, 14, 1, 1)}
    *_, joined, last = cut(net(nodes, shapes))
    assert joined.sizes((3, 5)) == (8,)
    assert last.sizes((3, 5)) == (8,)


@pytest.mark.parametrize("fold", [True, False])
def test_constants_are_in_no_segment(fold: bool) -> None:
    subject = open_model(DIGITS if fold else chain(8, 8))
    own = [k for part in segments(subject) for k in part.nodes]
    assert sorted(own) == [
        k for k, node in enumerate(subject.model.graph) if node.op_type != "Constant"
    ]

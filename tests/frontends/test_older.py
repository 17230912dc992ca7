"""Operator sets before 7 are converted when a model is loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from prunec.compiler.errors import ModelError
from prunec.frontends.onnx import load, to_proto
from prunec.frontends.origin import origin_of


def net(opset: int, *nodes: onnx.NodeProto, **stored: Any) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    helper.set_model_props(model, {"author": "prunec"})
    return model


def run(model: onnx.ModelProto, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    (y,) = ReferenceEvaluator(to_proto(load(model))).run(None, {"x": x})
    return np.asarray(y)


X = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4) - 20
SCALE = np.array([1, 10, 100], np.float32)


@pytest.mark.parametrize("opset", [1, 5, 6])
def test_an_operand_that_starts_at_an_axis_is_aligned_there(opset: int) -> None:
    node = helper.make_node("Mul", ["x", "s"], ["y"], broadcast=1, axis=1)
    np.testing.assert_array_equal(run(net(opset, node, s=SCALE), X), X * SCALE[:, None, None])


def test_an_operand_without_an_axis_is_aligned_at_the_right() -> None:
    last = np.arange(4, dtype=np.float32)
    node = helper.make_node("Add", ["x", "s"], ["y"], broadcast=1)
    np.testing.assert_array_equal(run(net(6, node, s=last), X), X + last)


def test_a_shape_attribute_becomes_an_input() -> None:
    nodes = (
        helper.make_node("Relu", ["x"], ["r"], consumed_inputs=[0]),
        helper.make_node("Reshape", ["r"], ["y"], shape=[0, -1]),
    )
    np.testing.assert_array_equal(run(net(1, *nodes), X), np.maximum(X, 0).reshape(1, 48))


def test_the_oldest_spellings_of_cast_pad_and_concat() -> None:
    nodes = (
        helper.make_node("Pad", ["x"], ["p"], paddings=[0, 0, 1, 0, 0, 0, 0, 2]),
        helper.make_node("Cast", ["p"], ["c"], to="DOUBLE"),
        helper.make_node("Cast", ["c"], ["f"], to="FLOAT"),
        helper.make_node("Concat", ["f", "p"], ["y"]),
    )
    padded = np.pad(X, [(0, 0), (0, 0), (1, 0), (0, 2)])
    np.testing.assert_array_equal(run(net(1, *nodes), X), np.concatenate([padded, padded], 1))


def test_weights_metadata_and_a_note_survive() -> None:
    weight = np.ones((200, 3, 1, 1), np.float32)  # large enough not to be parsed
    model = net(3, helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1]), w=weight)
    loaded = load(model.SerializeToString())
    assert loaded.opset_imports[""] == 7
    assert loaded.metadata_props == {"author": "prunec"}
    assert [value.name for value in loaded.graph.inputs] == ["x"]
    assert [note.code for note in origin_of(loaded).notes] == ["converted"]
    kept = loaded.graph.initializers["w"].const_value
    assert kept is not None
    np.testing.assert_array_equal(kept.numpy(), weight)


def test_what_cannot_be_converted_is_said_in_one_line() -> None:
    nodes = (
        helper.make_node("Mystery", ["x"], ["m"], domain="example"),
        helper.make_node("Mul", ["x", "m"], ["y"], broadcast=1, axis=1),
    )
    model = net(6, *nodes)
    model.opset_import.append(helper.make_opsetid("example", 1))
    with pytest.raises(ModelError, match=r"cannot be converted: .*unknown shape") as caught:
        load(model)
    assert "\n" not in str(caught.value)

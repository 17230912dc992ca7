"""Weights computed by mixing stored tensors are stored as the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from prunec.frontends.fold import folded
from prunec.frontends.onnx import load, to_proto
from prunec.frontends.origin import origin_of

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def weight(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def net(*nodes: onnx.NodeProto, **stored: Array) -> onnx.ModelProto:
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", ["x", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def assert_stored(model: onnx.ModelProto, *left: str) -> None:
    """Only `left` and w are stored, nothing but the product runs, and the result is the same."""
    out = folded(load(model))
    assert [node.op_type for node in out.graph] == ["MatMul"]
    assert set(out.graph.initializers) == {"w", *left}
    assert [note.code for note in origin_of(out).notes] == ["folded"]
    x = weight(2, 6)
    (before,) = ReferenceEvaluator(model).run(None, {"x": x})
    (after,) = ReferenceEvaluator(to_proto(out)).run(None, {"x": x})
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_weight_normalisation() -> None:
    nodes = (
        helper.make_node("ReduceL2", ["v"], ["n"], axes=[0]),
        helper.make_node("Div", ["v", "n"], ["u"]),
        helper.make_node("Mul", ["u", "g"], ["w"]),
    )
    assert_stored(net(*nodes, v=weight(6, 4), g=weight(1, 4)))


def test_a_product_of_two_weights() -> None:
    assert_stored(
        net(helper.make_node("MatMul", ["a", "b"], ["w"]), a=weight(6, 3), b=weight(3, 4))
    )


def test_one_vector_that_holds_a_weight() -> None:
    node = helper.make_node("Reshape", ["v", "s"], ["w"])
    assert_stored(net(node, v=weight(24), s=np.array([6, 4])))


def test_a_large_result_is_computed_when_it_is_read() -> None:
    model = net(helper.make_node("MatMul", ["a", "b"], ["w"]), a=weight(6, 600), b=weight(600, 4))
    large = net(helper.make_node("Softmax", ["a"], ["w"]), a=weight(300, 100))
    large.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 300
    assert_stored(model)
    stored = folded(load(large)).graph.initializers["w"].const_value
    assert stored is not None
    np.testing.assert_allclose(stored.numpy().sum(1), np.ones(300), rtol=1e-5)


def test_what_moves_or_scales_numbers_one_by_one_stays() -> None:
    nodes = (
        helper.make_node("Transpose", ["v"], ["t"]),
        helper.make_node("Mul", ["t", "g"], ["w"]),
    )
    model = load(net(*nodes, v=weight(4, 6), g=weight(1, 4)))
    assert folded(model) is model


def test_a_weight_that_callers_may_replace_stays() -> None:
    proto = net(helper.make_node("Softmax", ["v"], ["w"]), v=weight(6, 4))
    proto.graph.input.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, [6, 4]))
    model = load(proto)
    assert folded(model) is model


def test_what_can_not_be_computed_stays() -> None:
    """The axes contradict the shape: the model is at fault, but loading must not be."""
    model = load(net(helper.make_node("ReduceSum", ["v", "a"], ["w"]), v=weight(6, 4),
                     a=np.array([7])))  # fmt: skip
    assert folded(model) is model

"""Models are moved to a newer operator set for types that theirs lacks."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from prunec.compiler.errors import ModelError
from prunec.frontends.newer import raised
from prunec.frontends.onnx import load, to_proto


def net(opset: int) -> onnx.ModelProto:
    """A convolution with a weight above 1 kB, ReduceMean and Softmax, which changed their form."""
    weight = np.random.default_rng(0).normal(size=(16, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
            helper.make_node("ReduceMean", ["c"], ["m"], "mean", axes=[2, 3], keepdims=0),
            helper.make_node("Softmax", ["m"], ["y"], "soft", axis=1),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    helper.set_model_props(model, {"author": "prunec"})
    return model


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_outputs_names_and_metadata_stay(opset: int) -> None:
    before = load(net(opset))
    after = raised(before, 21)
    assert after.opset_imports[""] == 21 and after.ir_version >= 10
    # Attributes that became inputs stand in Constant nodes.
    kept = [n.name for n in after.graph if n.op_type != "Constant"]
    assert kept == ["conv", "mean", "soft"]
    assert after.metadata_props["author"] == "prunec"
    proto = to_proto(after)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype(np.float32)
    runs = [ReferenceEvaluator(to_proto(m)).run(None, {"x": x})[0] for m in (before, after)]
    np.testing.assert_array_equal(*runs)


def test_what_is_new_enough_comes_back_as_it_is() -> None:
    model = load(net(17))
    assert raised(model, 13) is model


def test_the_model_that_was_given_does_not_change() -> None:
    model = load(net(11))
    raised(model, 21)
    assert model.opset_imports[""] == 11 and "axes" in model.graph.node(1).attributes


def test_operators_that_cannot_be_converted_are_named() -> None:
    proto = net(9)
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    proto.graph.initializer.append(scales)
    proto.graph.node.insert(0, helper.make_node("Upsample", ["x", "scales"], ["big"], "up"))
    proto.graph.node[1].input[0] = "big"
    model = load(proto)
    try:
        after = raised(model, 21)
    except ModelError as error:
        assert "operator set 9 has to become 21" in str(error)
    else:  # a converter that knows how gives a legal model
        onnx.checker.check_model(to_proto(after), full_check=True)

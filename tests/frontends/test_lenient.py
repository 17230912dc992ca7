"""Files that onnx.checker refuses and onnxruntime runs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from frontend_models import chain, conv_relu, finish
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.errors import ModelError
from prunec.frontends.checker import check_fully
from prunec.frontends.onnx import load, to_proto


def test_outputs_without_a_shape_or_a_type() -> None:
    for field in ("shape", "type"):
        model = conv_relu()
        output = model.graph.output[0]
        if field == "shape":
            output.type.tensor_type.ClearField("shape")
        else:
            output.ClearField("type")
        loaded = load(model)
        check_fully(loaded)
        assert to_proto(loaded).graph.output[0] == output


def test_initializers_of_old_files_that_are_no_inputs() -> None:
    model = conv_relu()
    model.ir_version = 3
    loaded = load(model)
    check_fully(loaded)
    assert loaded.ir_version == 3


def test_operators_that_the_standard_has_dropped() -> None:
    scaled = helper.make_node("ImageScaler", ["x"], ["y"], scale=1.0, bias=[0.0] * 4)
    check_fully(load(chain(scaled)))
    nodes = [helper.make_node("GroupNormalization", ["x", "s", "s"], ["y"], num_groups=2)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", TensorProto.FLOAT, [1, 4, 2, 2])],
        [value("y", TensorProto.FLOAT, [1, 4, 2, 2])],
        [numpy_helper.from_array(np.ones(2, np.float32), "s")],
    )
    check_fully(load(finish(graph, opset=18)))


def test_types_without_tensors_come_back_when_written() -> None:
    """scikit-learn's classifiers return a sequence of maps."""
    scores = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, scores))
    node = helper.make_node(
        "ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2, 3]
    )
    model = chain(node)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    model.graph.output[0].CopyFrom(helper.make_value_info("y", maps))
    assert to_proto(load(model).clone()).graph.output[0] == model.graph.output[0]


def test_files_optimised_for_one_machine_are_refused_in_one_line() -> None:
    model = chain(helper.make_node("ReorderInput", ["x"], ["y"], domain="com.microsoft.nchwc"))
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft.nchwc", 1))
    with pytest.raises(ModelError, match="optimised by onnxruntime for the processor") as caught:
        load(model)
    assert "\n" not in str(caught.value)


def test_the_other_name_of_the_default_domain() -> None:
    model = conv_relu()
    for node in model.graph.node:
        node.domain = "ai.onnx"
    model.opset_import[0].domain = "ai.onnx"
    loaded = load(model)
    assert list(loaded.opset_imports) == [""]
    check_fully(loaded)

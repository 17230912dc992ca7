"""Sequences with literal positions become plain tensors; the others stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.frontends.onnx import load, to_proto
from prunec.frontends.shapes import infer_facts
from prunec.passes.simplify.sequences import resolve
from prunec.runtime.session import make_session

pytest.importorskip("onnxruntime")


def ints(name: str, *values: int, scalar: bool = False) -> onnx.TensorProto:
    array = np.array(values[0] if scalar else values, np.int64)
    return numpy_helper.from_array(array, name)


def model(
    nodes: list[onnx.NodeProto], stored: list[onnx.TensorProto], opset: int = 17
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 6])],
        [onnx.ValueInfoProto(name="y")],
        stored,
    )
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def same(proto: onnx.ModelProto) -> list[str]:
    """Operators after `resolve`, which must compute the same."""
    loaded = load(proto)
    before = {"x": np.arange(12, dtype=np.float32).reshape(2, 6)}
    (want,) = make_session(proto.SerializeToString(), optimise=False).run(before)
    resolved = resolve(loaded)
    (got,) = make_session(to_proto(resolved).SerializeToString(), optimise=False).run(before)
    np.testing.assert_array_equal(want, got)
    if resolved is not loaded:
        assert infer_facts(resolved).shapes["y"] == want.shape
    return [node.op_type for node in resolved.graph]


def test_a_split_that_is_read_piece_by_piece() -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x", "sizes"], ["s"], axis=1),
        helper.make_node("SequenceAt", ["s", "last"], ["y"]),
    ]
    stored = [ints("sizes", 2, 4), ints("last", -1, scalar=True)]
    assert same(model(nodes, stored)) == ["Split", "Identity"]
    assert same(model(nodes, stored, opset=11)) == ["Split", "Identity"]


def test_a_sequence_that_is_built_and_joined() -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"]),
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("SequenceInsert", ["s", "n", "one"], ["t"]),
        helper.make_node("SequenceErase", ["t"], ["u"]),
        helper.make_node("ConcatFromSequence", ["u"], ["y"], axis=1),
    ]
    assert same(model(nodes, [ints("one", 1, scalar=True)])) == ["Neg", "Concat"]


def test_a_length_is_a_constant() -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"]),
        helper.make_node("SequenceLength", ["s"], ["n"]),
        helper.make_node("Cast", ["n"], ["y"], to=TensorProto.FLOAT),
    ]
    assert same(model(nodes, [])) == ["Constant", "Cast"]


def looped(count: str = "count", shape: list[int] | None = None) -> onnx.ModelProto:
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "i"], ["start"]),
            helper.make_node("Add", ["i", "one"], ["j"]),
            helper.make_node("Gather", ["table", "j"], ["end"]),
            helper.make_node("Slice", ["x", "start", "end", "one"], ["part"]),
            helper.make_node("SequenceInsert", ["before", "part"], ["after"]),
            helper.make_node("Identity", ["c"], ["goes"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, [1] if shape is None else shape),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_sequence_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_sequence_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("SequenceEmpty", [], ["empty"]),
        helper.make_node("Size", ["x"], ["size"]),
        helper.make_node("Loop", [count, "true", "empty"], ["s"], body=body),
        helper.make_node("SequenceAt", ["s", "last"], ["y"]),
    ]
    stored = [
        ints("table", 0, 2, 6),
        ints("one", 1),
        ints("count", 2, scalar=True),
        ints("last", 1, scalar=True),
        numpy_helper.from_array(np.array(True), "true"),
    ]
    return model(nodes, stored)


def test_a_loop_of_literal_steps_is_written_out() -> None:
    proto = looped()
    proto.graph.node[2].attribute[0].g.node[5].input[0] = "true"
    operators = same(proto)
    assert "Loop" not in operators
    assert operators.count("Slice") == 2


def test_a_condition_that_is_handed_through_never_breaks() -> None:
    assert "Loop" not in same(looped())


def test_a_loop_whose_steps_are_data_stays() -> None:
    loaded = load(looped("size"))
    assert "Loop" in [node.op_type for node in resolve(loaded).graph]


def test_a_model_without_sequences_is_returned_as_it_is() -> None:
    loaded = load(model([helper.make_node("Relu", ["x"], ["y"])], []))
    assert resolve(loaded) is loaded


def test_the_model_given_is_not_changed() -> None:
    loaded = load(looped())
    resolve(loaded)
    assert "Loop" in [node.op_type for node in loaded.graph]

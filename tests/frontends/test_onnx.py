"""load() takes every kind of model and gives a named, sorted, checked one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from frontend_models import chain, conv_relu, weights
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.errors import UsageError
from prunec.frontends.onnx import graph_digest, load, to_proto


def test_path_bytes_proto_and_ir_give_the_same_model(tmp_path: Path) -> None:
    proto = conv_relu()
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    sources = (path, str(path), path.read_bytes(), proto, ir.from_proto(proto))
    protos = [to_proto(load(source)) for source in sources]
    assert all(other == protos[0] for other in protos)


def test_sources_are_not_changed() -> None:
    proto = conv_relu()
    before = proto.SerializeToString(deterministic=True)
    model = ir.from_proto(proto)
    names = [node.name for node in model.graph]
    load(proto)
    load(model)
    assert proto.SerializeToString(deterministic=True) == before
    assert [node.name for node in model.graph] == names


def test_large_weights_of_a_file_are_views_into_it(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(conv_relu(), path)
    tensor = load(path).graph.initializers["w1"].const_value
    assert tensor is not None
    assert not tensor.numpy().flags.owndata
    assert not tensor.numpy().flags.writeable
    np.testing.assert_array_equal(tensor.numpy(), weights(16, 3, 3, 3))


def test_weights_survive_the_replacement_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(conv_relu(), path)
    model = load(path)
    path.unlink()
    np.testing.assert_array_equal(
        model.graph.initializers["w1"].const_value.numpy(),
        weights(16, 3, 3, 3),
    )


@pytest.mark.parametrize(
    "dtype",
    [
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.DOUBLE,
        TensorProto.INT8,
        TensorProto.BOOL,
        TensorProto.FLOAT8E4M3FN,
        TensorProto.INT4,
    ],
)
def test_weights_of_every_type_arrive(tmp_path: Path, dtype: int) -> None:
    values = np.random.default_rng(0).integers(0, 2, (32, 128))
    tensor = helper.make_tensor("w", dtype, values.shape, values.reshape(-1).tolist())
    raw = numpy_helper.from_array(numpy_helper.to_array(tensor), "w")
    model = chain(helper.make_node("Relu", ["x"], ["y"]))
    model.graph.initializer.append(raw)
    model.opset_import[0].version, model.ir_version = 21, 10
    onnx.save(model, tmp_path / "net.onnx")
    loaded = load(tmp_path / "net.onnx").graph.initializers["w"].const_value
    assert loaded is not None
    np.testing.assert_array_equal(loaded.numpy().astype(int), values)
    assert to_proto(load(tmp_path / "net.onnx")).graph.initializer[0].raw_data == raw.raw_data


def test_unnamed_and_equally_named_nodes_get_names() -> None:
    model = chain(
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"], name="twin"),
        helper.make_node("Relu", ["b"], ["y"], name="twin"),
    )
    assert [node.name for node in load(model).graph] == ["Relu_0", "twin", "twin_1"]


def test_absent_optional_outputs_stay_absent() -> None:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], hidden_size=2)
    model = chain(node, helper.make_node("Relu", ["h"], ["y"]), shape=(3, 1, 4))
    model.graph.initializer.append(numpy_helper.from_array(weights(1, 8, 4), "w"))
    model.graph.initializer.append(numpy_helper.from_array(weights(1, 8, 2), "r"))
    assert list(to_proto(load(model)).graph.node[0].output) == ["", "h"]


def test_nodes_out_of_order_are_sorted_stably() -> None:
    model = chain(
        helper.make_node("Add", ["a", "b"], ["y"], name="last"),
        helper.make_node("Relu", ["x"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"], name="two"),
    )
    assert [node.name for node in load(model).graph] == ["one", "two", "last"]


def test_a_subgraph_may_read_what_is_produced_behind_it() -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["late"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["M", "K"])],
    )
    condition = numpy_helper.from_array(np.array(True), "cond")
    model = chain(
        helper.make_node("If", ["cond"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Neg", ["x"], ["late"]),
    )
    model.graph.initializer.append(condition)
    loaded = load(model)
    assert [node.op_type for node in loaded.graph] == ["Neg", "If"]
    assert all(node.name for node in loaded.graph.all_nodes())


def test_operators_of_unknown_domains_are_fine() -> None:
    model = chain(helper.make_node("Magic", ["x"], ["y"], domain="com.example"))
    model.opset_import.append(helper.make_opsetid("com.example", 3))
    assert next(iter(load(model).graph)).op_type == "Magic"


def test_other_objects_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot load a dict"):
        load({})


def test_digest_ignores_float_weights_and_metadata_only() -> None:
    base = graph_digest(load(conv_relu()))
    tuned = conv_relu()
    tuned.graph.initializer[0].raw_data = weights(16, 3, 3, 3, seed=9).tobytes()
    tuned.metadata_props[0].value = "somebody else"
    tuned.doc_string = "another"
    assert graph_digest(load(tuned)) == base
    assert graph_digest(load(conv_relu(channels=8))) != base
    assert graph_digest(load(conv_relu(batch=1))) != base


def test_digest_sees_attributes_and_integer_contents() -> None:
    def reshape(target: list[int], zero: int) -> str:
        model = chain(helper.make_node("Reshape", ["x", "to"], ["y"], allowzero=zero))
        model.graph.initializer.append(numpy_helper.from_array(np.array(target), "to"))
        return graph_digest(load(model))

    assert reshape([4, 1], 0) == reshape([4, 1], 0)
    assert len({reshape([4, 1], 0), reshape([2, 2], 0), reshape([4, 1], 1)}) == 3

"""Products in the form that onnxruntime computes from packed integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.frontends.onnx import load, save, to_proto
from prunec.passes.quantize.blocks import untransposed
from prunec.passes.quantize.recipe import parse_recipe
from prunec.runtime.quantize.quantise import quantise
from prunec.runtime.session import make_session

X = np.random.default_rng(1).standard_normal((3, 48)).astype(np.float32)


def two_products(shared: bool = False) -> onnx.ModelProto:
    """x (n, 48) -> Gemm with transB -> Tanh -> MatMul with a Transpose -> y (n, 8)."""
    rng = np.random.default_rng(0)
    stored = {
        "w": rng.standard_normal((40, 48)).astype(np.float32),
        "b": rng.standard_normal(40).astype(np.float32),
        "v": rng.standard_normal((8, 40)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "gemm", transB=1),
        helper.make_node("Tanh", ["h"], ["r"], "tanh"),
        helper.make_node("Transpose", ["v"], ["vt"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["r", "vt"], ["y"], "matmul"),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])]
    if shared:
        nodes.append(helper.make_node("MatMul", ["r", "w"], ["again"], "tied"))
        outputs.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["n", 48]))
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 48])],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def test_weights_are_stored_as_they_are_multiplied() -> None:
    model = load(two_products())
    before = make_session(two_products().SerializeToString()).run({"x": X})
    assert untransposed(model) == ("gemm", "matmul")
    assert [node.op_type for node in model.graph] == ["Gemm", "Tanh", "MatMul"]
    (after,) = make_session(model).run({"x": X})
    np.testing.assert_allclose(after, before[0], rtol=1e-5, atol=1e-5)


def test_a_weight_with_two_readers_stays_as_it_is() -> None:
    model = load(two_products(shared=True))
    assert untransposed(model) == ("matmul",)


@pytest.mark.parametrize("recipe", ["weights=int4{block=32}", "weights=int4", "weights=int8"])
def test_onnxruntime_multiplies_with_the_packed_integers(recipe: str, tmp_path: Path) -> None:
    made = quantise(load(two_products()), parse_recipe(recipe)).model
    path, seen = tmp_path / "made.onnx", tmp_path / "seen.onnx"
    save(made, path)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(seen), 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(seen).graph.node]
    assert kinds.count("MatMulNBits") == 2
    assert "DequantizeLinear" not in kinds
    (fused,) = session.run(None, {"x": X})
    (plain,) = make_session(made, optimise=False).run({"x": X})
    # Its kernels may quantise activations as well; weights are the same.
    assert np.linalg.norm(fused - plain) < 0.02 * np.linalg.norm(plain)


def test_four_bits_take_half_a_byte_in_the_file() -> None:
    made = to_proto(quantise(load(two_products()), parse_recipe("weights=int4{block=32}")).model)
    sizes = {t.name: (t.data_type, len(t.raw_data)) for t in made.graph.initializer}
    assert sizes["w.codes"] == (TensorProto.INT4, 48 * 40 // 2)
    assert sizes["w.scale"] == (TensorProto.FLOAT, 2 * 40 * 4), "two blocks of 48 inputs"

"""Emission: standard QuantizeLinear and DequantizeLinear, names and interface as they were."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from quantised_nets import emitted, found, grids, residual_net

from prunec.compiler.quantisation import Grid
from prunec.frontends.onnx import to_proto
from prunec.passes.quantize.emit import METADATA, emit, needed_opset
from prunec.passes.quantize.recipe import Recipe
from prunec.passes.quantize.strip import strip

pytest.importorskip("onnxruntime")


def run(model: ir.Model, optimise: bool = False) -> np.ndarray:
    from prunec.runtime.session import make_session

    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    return make_session(model, optimise=optimise).run({"x": x})[0]


@pytest.mark.parametrize(
    ("recipe", "opset"),
    [
        ("w8a8", 17),
        ("weights=int8", 17),
        ("w4a8", 21),
        ("w4a4", 21),
        ("w4a4{kernels=false}", 21),
        ("w8a16", 21),
        ("w3a5", 21),
        ("weights=int4{block=4}", 21),
    ],
)
def test_models_are_legal_and_keep_their_interface(recipe: str, opset: int) -> None:
    proto = to_proto(emitted(residual_net(opset), recipe))
    onnx.checker.check_model(proto, full_check=True)
    shape = proto.graph.input[0].type.tensor_type.shape
    assert shape.dim[0].dim_param == "batch"
    assert [v.name for v in proto.graph.output] == ["y"]


@pytest.mark.parametrize(
    ("recipe", "weights", "values"),
    [
        ("w8a8", TensorProto.INT8, TensorProto.UINT8),
        ("w4a4", TensorProto.INT4, TensorProto.UINT8),
        ("w4a4{kernels=false}", TensorProto.INT4, TensorProto.UINT4),
        ("w8a16", TensorProto.INT8, TensorProto.UINT16),
    ],
)
def test_integers_are_stored_in_the_type_that_holds_them(
    recipe: str, weights: int, values: int
) -> None:
    proto = to_proto(emitted(residual_net(21), recipe))
    kinds = {t.name: t.data_type for t in proto.graph.initializer}
    assert kinds["block.w.codes"] == weights
    assert kinds["r.zero"] == values
    assert kinds["block.b.codes"] == TensorProto.INT32


def test_narrow_integers_in_wide_types_give_the_same_numbers() -> None:
    wide, narrow = (emitted(residual_net(21), f"w4a4{{kernels={k}}}") for k in ("true", "false"))
    np.testing.assert_array_equal(run(wide), run(narrow))
    assert {"Cast", "Clip"} <= {n.op_type for n in wide.graph}
    assert not {"Cast", "Clip"} & {n.op_type for n in narrow.graph}


def test_the_bias_counts_in_steps_of_input_times_weight() -> None:
    model, facts, where = found(residual_net(), "w8a8")
    activations, weights = grids(model, where)
    done = emit(model, facts, where, activations, weights).model
    scale = done.graph.initializers["stem.b.scale"].const_value
    assert scale is not None
    steps = activations["x"].scale * weights["stem.w"][0].scale
    np.testing.assert_allclose(scale.numpy(), steps, rtol=1e-6)


def test_a_bias_that_does_not_fit_stays_float_and_is_named() -> None:
    model, facts, where = found(residual_net(), "w8a8")
    activations, weights = grids(model, where)
    grid, codes = weights["stem.w"]
    tiny = Grid(8, True, np.full(8, 1e-12, np.float32), grid.zero, 0)
    made = emit(model, facts, where, activations, {**weights, "stem.w": (tiny, codes)})
    assert "do not fit" in made.floats["stem.b"]
    assert "stem.b" in made.model.graph.initializers


def test_an_output_keeps_its_name_where_its_layer_becomes_integers() -> None:
    model = residual_net()
    del model.graph.node[3:]
    model.graph.output[0].name = "c"
    done = emitted(model, "w8a8")
    out = done.graph.outputs[0]
    producer = out.producer()
    assert out.name == "c" and producer is not None
    assert producer.op_type == "DequantizeLinear"


def test_what_is_not_given_stays_float() -> None:
    model, facts, where = found(residual_net(), "w8a8")
    _, weights = grids(model, where)
    done = emit(model, facts, where, {}, {"fc.w": weights["fc.w"]}).model
    assert [n.op_type for n in done.graph].count("DequantizeLinear") == 1
    assert "stem.w" in done.graph.initializers


def test_the_recipe_is_in_the_metadata() -> None:
    model, facts, where = found(residual_net(), "w8a8")
    done = emit(model, facts, where, *grids(model, where), recipe="w8a8").model
    assert done.metadata_props[METADATA] == "w8a8"
    assert METADATA not in model.metadata_props


@pytest.mark.parametrize("recipe", ["w8a8", "w4a4", "w4a8", "weights=int4{block=4}"])
def test_stripping_gives_the_graph_back_and_weights_within_half_a_step(recipe: str) -> None:
    model, _, _ = found(residual_net(21), recipe)
    back = strip(emitted(residual_net(21), recipe))
    assert [n.op_type for n in back.model.graph] == [n.op_type for n in model.graph]
    assert [n.name for n in back.model.graph] == [n.name for n in model.graph]
    for name, step in back.steps.items():
        before, after = (m.graph.initializers[name].const_value for m in (model, back.model))
        assert before is not None and after is not None
        apart = np.abs(before.numpy() - after.numpy()) / step
        inside = np.abs(back.integers[name]) < np.abs(back.integers[name]).max() - 1
        assert apart[inside].max(initial=0) <= 0.501


@pytest.mark.parametrize(
    ("recipe", "opset"),
    [
        (Recipe(8, 8), 13),
        (Recipe(8, 16), 21),
        (Recipe(4, 8), 21),
        (Recipe(8, 4), 13),
        (Recipe(8, 4, kernels=False), 21),
        (Recipe(8, None, block=4), 21),
    ],
)
def test_the_operator_set_is_the_first_that_has_the_types(recipe: Recipe, opset: int) -> None:
    _, _, where = found(residual_net(), recipe)
    assert needed_opset(where, kernels=recipe.kernels) == opset


def test_shared_initialisers_are_read_by_all_their_readers() -> None:
    model = residual_net()
    model.graph.node.append(helper.make_node("Conv", ["ar", "block.w"], ["again"], "again"))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, None))
    done = emitted(model, "w8a8")
    readers = [n.name for n in done.graph if "block.w" in [v and v.name for v in n.inputs]]
    assert readers == ["block", "again"]

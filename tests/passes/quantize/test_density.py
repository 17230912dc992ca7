"""Performance density: bits of weights and activations, counted."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.frontends.onnx import load
from prunec.passes.quantize.density import Density, density
from prunec.passes.quantize.recipe import parse_recipe
from prunec.runtime.data import DataSpec
from prunec.runtime.quantize.quantise import Conditions, quantise
from prunec.runtime.subject import open_model


def small() -> ir.Model:
    """x (2, 3, 8, 8) -> Conv(4) -> Relu -> Conv(5) -> y."""
    rng = np.random.default_rng(0)
    stored = {
        "a": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "b": rng.standard_normal((5, 4, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "b"], ["y"], "second"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5, 8, 8])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return load(model)


WEIGHTS, SAMPLE = 4 * 3 * 9 + 5 * 4, 64 * (4 + 4 + 5)


def counted(model: ir.Model, score: float | None = None) -> Density:
    subject = open_model(model)
    return density(subject.model, subject.facts, subject.graph, score)


def test_a_float_model_takes_32_bits_each() -> None:
    found = counted(small(), 90.0)
    assert (found.weights, found.weight_bits) == (WEIGHTS, 32 * WEIGHTS)
    assert (found.activations, found.activation_bits) == (SAMPLE, 32 * SAMPLE), "of one sample"
    assert found.density == pytest.approx(90 / (32 * (WEIGHTS + SAMPLE) / 1e6))
    assert found.to_dict()["performance_density"] == found.density


def test_it_counts_what_the_cost_counts() -> None:
    graph = open_model(small()).graph
    assert counted(small()).activations * 2 == graph.costs["activations"](graph.dense())


@pytest.mark.parametrize(("recipe", "weights", "values"), [("w8a8", 8, 8), ("w4a4", 4, 4)])
def test_integers_count_by_their_bits(
    recipe: str, weights: int, values: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("data") / "x.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32))
    made = quantise(small(), parse_recipe(recipe), Conditions(data=DataSpec(str(path)))).model
    found = counted(made)
    assert (found.weights, found.weight_bits) == (WEIGHTS, weights * WEIGHTS)
    assert found.activations == SAMPLE, "Q, DQ and what emulates 4 bits are no values of their own"
    # y leaves the graph: as floats where its Conv stays in float at the end, else as integers.
    assert values * SAMPLE <= found.activation_bits <= values * 64 * 8 + 32 * 64 * 5


def test_without_a_score_there_is_no_density() -> None:
    assert counted(small()).density is None
    assert Density(0, 0, 0, 0, 1.0).density is None

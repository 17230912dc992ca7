"""Bits chosen together with channels: what is measured, decided, and found in the file."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.errors import InfeasibleBudgetError, UsageError
from prunec.frontends.onnx import load
from prunec.passes.criteria.reconstruction import Reconstruction
from prunec.passes.options import Options
from prunec.passes.quantize.file_bytes import file_bytes
from prunec.passes.quantize.places import places
from prunec.passes.quantize.recipe import Recipe
from prunec.runtime.compile import Settings, compile_model, plan_for
from prunec.runtime.data import DataSpec
from prunec.runtime.quantize.sensitivity import Asked, sensitivities, with_folded_norms
from prunec.runtime.subject import Subject, open_model, reopened

RECONSTRUCTION = Options(criterion=Reconstruction(probes=16, points=2), align=1)


@pytest.fixture(scope="module")
def subject() -> Subject:
    """image (n, 3, 8, 8) -> Conv(7) -> BatchNormalization -> Relu -> Conv(5) -> pool -> Gemm."""
    rng = np.random.default_rng(0)
    stored = {
        "a": rng.standard_normal((7, 3, 3, 3)),
        "scale": rng.uniform(0.5, 1.5, 7),
        "shift": rng.standard_normal(7),
        "mean": rng.standard_normal(7),
        "var": rng.uniform(0.5, 1.5, 7),
        "b": rng.standard_normal((5, 7, 3, 3)),
        "c": rng.standard_normal((6, 5)),
        "d": rng.standard_normal(6),
    }
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["h"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["h", "scale", "shift", "mean", "var"], ["n"], "bn"),
        helper.make_node("Relu", ["n"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "b"], ["g"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["g"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "c", "d"], ["logits"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "three",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 6])],
        [numpy_helper.from_array(x.astype(np.float32), name) for name, x in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return open_model(load(model))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    path = tmp_path_factory.mktemp("joint") / "x.npz"
    images = np.random.default_rng(1).standard_normal((24, 3, 8, 8)).astype(np.float32)
    np.savez(path, image=images)
    return DataSpec(str(path))


def settings(data: DataSpec | None, quantize: str) -> Settings:
    return Settings(data=data, quantize=quantize, recover="none", accuracy=False)


def recounted(model: ir.Model, subject: Subject) -> int:
    own = reopened(model, subject).graph
    return file_bytes(model, {w.value for w in own.weights if w.counted})


def test_fewer_bits_cost_more_in_both_measures(subject: Subject, data: DataSpec) -> None:
    folded = with_folded_norms(subject)
    where = places(folded.model, folded.facts, Recipe())
    asked = Asked({name: (place, (2, 4, 8, 32)) for name, place in where.weights.items()})
    found = sensitivities(folded, asked, Recipe(), data)
    assert [x.weight for x in found] == ["a", "b", "c"]
    for x in found:
        assert (np.diff(x.error) < 0).all() and x.error[-1] == 0
        assert (np.diff(x.loss) < 0).all() and x.loss[-1] < 1e-9
        assert x.error[0] > 30 * x.error[2], "a step is 1/16th of a step of 4 bits"


@pytest.mark.parametrize(
    ("quantize", "share"),
    [("auto", 0.4), ("auto", 0.25), ("auto{choices=4+8+32}", 0.35), ("w8a8", 0.4), ("w4a8", 0.3)],
)
def test_the_file_has_the_bytes_of_the_plan_and_fits(
    subject: Subject, data: DataSpec, share: float, quantize: str
) -> None:
    own = settings(data, quantize)
    plan = plan_for(subject, f"bytes={share}", RECONSTRUCTION, own)
    dense, claimed = plan.costs["bytes"]
    assert dense == subject.graph.costs["bytes"](subject.graph.dense())
    assert claimed <= plan.budget["bytes"] <= share * dense
    assert set(plan.bits) == {"a", "b", "c"}
    done = compile_model(subject, plan, own)
    assert recounted(done.model, subject) == claimed == done.plan.costs["bytes"][1]
    assert done.report.density is not None
    before, after = done.report.density
    assert before.bits_per_weight == before.bits_per_activation == 32
    assert after.bits_per_weight < 32 and after.bits_per_activation < 32
    if quantize.startswith("auto"):
        assert done.plan.bits == plan.bits
        assert plan.options["bits"]["measure"] == "outputs"


def test_a_tighter_budget_takes_fewer_bits_or_channels(subject: Subject, data: DataSpec) -> None:
    own = settings(data, "auto")
    plans = [plan_for(subject, f"bytes={s}", RECONSTRUCTION, own) for s in (0.6, 0.3)]
    assert list(plans[0].bits.values()) == [8, 8, 8]
    assert plans[1].objective < plans[0].objective
    assert min(plans[1].bits.values()) == 4 or plans[1].costs["params"] < plans[0].costs["params"]


def test_other_scores_are_traded_for_errors_of_layers(subject: Subject, data: DataSpec) -> None:
    plan = plan_for(subject, "bytes=0.3", Options(align=1), settings(data, "auto"))
    assert plan.options["bits"]["measure"] == "layers"


@pytest.mark.parametrize(
    ("budget", "options", "data_given", "message"),
    [
        ("flops=0.5", Options(), True, "budget of bytes"),
        ("bytes=0.3", Options(), False, "data"),
    ],
)
def test_auto_says_what_it_needs(
    subject: Subject,
    data: DataSpec,
    budget: str,
    options: Options,
    data_given: bool,
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        plan_for(subject, budget, options, settings(data if data_given else None, "auto"))


def test_a_budget_below_four_bits_and_one_channel_is_refused(
    subject: Subject, data: DataSpec
) -> None:
    with pytest.raises(InfeasibleBudgetError, match="bytes"):
        plan_for(subject, "bytes=0.02", RECONSTRUCTION, settings(data, "auto"))


def test_a_plan_is_carried_out_again_with_its_bits(subject: Subject, data: DataSpec) -> None:
    own = settings(data, "auto")
    plan = plan_for(subject, "bytes=0.3", RECONSTRUCTION, own)
    assert plan.components["quantize"] == "auto"
    first = compile_model(subject, plan, own)
    again = compile_model(subject, first.plan, Settings(data=data, recover="none", accuracy=False))
    assert again.plan.bits == plan.bits
    assert recounted(again.model, subject) == plan.costs["bytes"][1]

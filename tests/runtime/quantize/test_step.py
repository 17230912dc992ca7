"""Quantising a model: kernels that run, checks that hold, models that came quantised."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from quantised_nets import residual_net

from prunec.compiler.errors import ModelError, UsageError, VerificationError
from prunec.frontends.onnx import load, to_proto
from prunec.passes.quantize.recipe import Recipe, Rule, parse_recipe
from prunec.runtime.data import DataSpec
from prunec.runtime.quantize.kernels import kernels
from prunec.runtime.quantize.prove import prove
from prunec.runtime.quantize.quantise import Conditions, quantise
from prunec.runtime.quantize.step import Step, quantised

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    path = tmp_path_factory.mktemp("data") / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(24, 3, 6, 6)).astype(np.float32))
    return DataSpec(str(path))


def step(recipe: str | Recipe, data: DataSpec | None, model: onnx.ModelProto | None = None) -> Step:
    made = parse_recipe(recipe) if isinstance(recipe, str) else recipe
    return quantised(load(model or residual_net()), made, Conditions(data=data))


@pytest.mark.parametrize("recipe", ["w8a8", "w4a8", "w4a4"])
def test_onnxruntime_runs_its_integer_kernels(recipe: str, data: DataSpec) -> None:
    found = step(recipe, data).report.kernels
    assert found is not None and found.float_layers == ()
    assert found.integer == {
        "QGemm": 1,
        "QLinearAdd": 1,
        "QLinearConv": 2,
        "QLinearGlobalAveragePool": 1,
    }


def test_what_has_no_kernel_is_said(data: DataSpec) -> None:
    done = step("w8a16", data)
    assert done.report.kernels is not None and len(done.report.kernels.unfused) == 3
    assert "no integer kernel for 3 quantised layers" in str(done.diagnostics[0])


@pytest.mark.parametrize(
    ("recipe", "most"),
    [("w8a8", 0.03), ("w8a16", 0.03), ("w4a8{rounding=gptq}", 0.25), ("weights=int8", 0.03)],
)
def test_outputs_stay_near(recipe: str, most: float, data: DataSpec) -> None:
    from prunec.runtime.session import make_session

    done = step(recipe, data)
    feeds = {"x": np.load(data.path)}
    before, after = (make_session(m).run(feeds)[0] for m in (load(residual_net()), done.done.model))
    apart = np.linalg.norm(before - after) / np.linalg.norm(before - before.mean(axis=0))
    assert apart < most


def test_every_check_holds_and_says_what_it_saw(data: DataSpec) -> None:
    done = step("w8a8", data)
    said = {check.name: check.detail for check in done.checks}
    assert list(said) == ["norms folded", "same but for Q and DQ", "weights rounded"]
    assert (
        "without 7 pairs on activations and 6 dequantised tensors" in said["same but for Q and DQ"]
    )
    assert "at most 0.50 steps" in said["weights rounded"]


@pytest.mark.parametrize(
    ("change", "check"), [("weight", "weights rounded"), ("node", "same but for Q and DQ")]
)
def test_a_model_that_was_changed_fails(change: str, check: str, data: DataSpec) -> None:
    source = load(residual_net())
    done = quantise(source, parse_recipe("w8a8"), Conditions(data=data))
    proto = to_proto(done.model)
    if change == "weight":
        (codes,) = [t for t in proto.graph.initializer if t.name == "block.w.codes"]
        array = onnx.numpy_helper.to_array(codes).copy()
        array[array == 3] = 5
        codes.CopyFrom(onnx.numpy_helper.from_array(array, codes.name))
    else:
        (pool,) = [n for n in proto.graph.node if n.op_type == "MaxPool"]
        pool.attribute[0].ints[:] = [1, 1]
    checks = prove(source, done.float_model, done.facts, load(proto), nearest=True)
    assert [c.name for c in checks if not c.passed] == [check]


def test_rules_give_each_weight_its_bits(data: DataSpec) -> None:
    recipe = Recipe(rules=(Rule(r"block", weights=4), Rule(r"fc", skip=True)))
    done = step(recipe, data)
    assert dict(done.done.bits) == {"stem.w": 8, "block.w": 4}
    assert dict(done.report.weight_bits) == {4: 576, 8: 216, 32: 40}
    assert done.report.floats["fc"] == "rule 'fc' says so"


def test_old_operator_sets_are_raised_where_types_need_it(data: DataSpec) -> None:
    assert step("w8a8", data).done.model.opset_imports[""] == 17
    assert step("w4a8", data).done.model.opset_imports[""] == 21
    assert step("w8a8", data, residual_net(11)).done.model.opset_imports[""] == 13


def test_a_model_that_cannot_be_raised_is_refused() -> None:
    model = residual_net()
    body = helper.make_graph(
        [helper.make_node("Identity", ["y0"], ["inner"])],
        "body",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    model.graph.node[-1].output[0] = "y0"
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["y"], "if", then_branch=body, else_branch=body)
    )
    with pytest.raises(ModelError, match="control flow or functions can't be converted"):
        step("weights=int4", None, model)


def test_data_is_asked_for() -> None:
    with pytest.raises(UsageError, match="needs calibration data"):
        step("w8a8", None)


def test_nothing_to_quantise_says_why(data: DataSpec) -> None:
    with pytest.raises(UsageError, match=r"nothing can be quantised: excluded by '\.'"):
        step(Recipe(exclude=(".",)), data)


class Reader:
    """The data as onnxruntime.quantization takes it."""

    def __init__(self, data: DataSpec) -> None:
        images = np.load(data.path)
        self.batches: Iterator[Mapping[str, Any]] = iter([{"x": images}])

    def get_next(self) -> Mapping[str, Any] | None:
        return next(self.batches, None)


def static(folder: Path, data: DataSpec, form: str) -> ir.Model:
    """The net, quantised by onnxruntime's own quantiser."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization = pytest.importorskip("onnxruntime.quantization")
        out = folder / "static.onnx"
        quantization.quantize_static(
            residual_net(),
            str(out),
            Reader(data),
            quant_format=quantization.QuantFormat[form],
            activation_type=quantization.QuantType.QUInt8,  # int8 is the default, without kernels
        )
    return load(out)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_what_came_quantised_is_left_alone(form: str, tmp_path: Path, data: DataSpec) -> None:
    model = static(tmp_path, data, form)
    with pytest.raises(UsageError, match="nothing can be quantised"):
        quantised(model, parse_recipe("w8a8"), Conditions(data=data))


def test_float_layers_beside_quantised_ones_are_quantised(tmp_path: Path, data: DataSpec) -> None:
    before = quantise(load(residual_net()), Recipe(exclude=("^stem",)), Conditions(data=data)).model
    done = quantised(before, parse_recipe("w8a8"), Conditions(data=data))
    assert set(done.done.bits) == {"stem.w"}
    assert "arrived quantised and stay" in " ".join(map(str, done.diagnostics))
    integer = kernels(done.done.model).integer
    assert integer["QLinearConv"] == 2 and integer["QGemm"] == 1


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_a_quantised_model_that_is_pruned_stays_quantised(
    form: str, tmp_path: Path, data: DataSpec
) -> None:
    from prunec.passes.options import Options
    from prunec.passes.solvers.greedy import Greedy
    from prunec.runtime.compile import Settings, apply_plan, plan_for
    from prunec.runtime.subject import open_model

    subject = open_model(static(tmp_path, data, form))
    plan = plan_for(subject, "flops=0.6", Options(solver=Greedy(), align=1), Settings())
    pruned = apply_plan(subject, plan)
    kinds = {v.dtype for v in pruned.graph.initializers.values() if len(v.shape or ()) == 4}
    assert kinds == {ir.DataType.INT8}
    integer = kernels(pruned).integer
    assert integer["QLinearConv"] == 2 and integer["QLinearAdd"] == 1


def test_a_failed_check_stops_the_job(monkeypatch: pytest.MonkeyPatch, data: DataSpec) -> None:
    from prunec.runtime.quantize import step as module
    from prunec.runtime.verify import Check

    monkeypatch.setattr(module, "prove", lambda *_, **__: (Check("rounded", False, "no"),))
    with pytest.raises(VerificationError, match="rounded: no"):
        step("w8a8", data)

"""A kernel that ends the process ends a child, and the user reads a line."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.frontends.onnx import load
from prunec.passes.options import Options
from prunec.runtime import trial
from prunec.runtime.calibrate import collect
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.inputs import Feeds
from prunec.runtime.subject import open_model
from prunec.runtime.trial import Dies, require_survival
from prunec.runtime.verify import verify

pytest.importorskip("onnxruntime")
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


def perceptron(op: str, domain: str) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node(op, ["x", "a"], ["h"], "first", domain=domain),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"], "second"),
    ]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [
            numpy_helper.from_array(rng.standard_normal(shape).astype("f4"), name)
            for name, shape in (("a", (3, 8)), ("b", (8, 2)))
        ],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def feeds() -> Feeds:
    return {"x": np.ones((2, 3), np.float32)}


def test_a_model_that_runs_survives() -> None:
    require_survival(load(perceptron("FusedMatMul", "com.microsoft")), feeds())


def test_an_error_is_left_to_the_run_that_reports_it() -> None:
    bad = {"x": np.ones((2, 5), np.float32)}
    require_survival(load(perceptron("FusedMatMul", "com.microsoft")), bad)


def test_a_death_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "CHILD", DIES)
    with pytest.raises(Dies, match=r"SIGSEGV.*com\.microsoft::FusedMatMul"):
        require_survival(load(perceptron("FusedMatMul", "com.microsoft")), feeds())


def test_standard_operators_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "CHILD", DIES)
    require_survival(load(perceptron("MatMul", "")), feeds())


def test_calibration_does_not_run_what_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "CHILD", DIES)
    with pytest.raises(Dies):
        collect(load(perceptron("FusedMatMul", "com.microsoft")), [("r", 1)], [feeds()])


def test_verification_fails_in_words_and_runs_nothing_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = open_model(perceptron("FusedMatMul", "com.microsoft"))
    plan = plan_for(subject, "flops=0.5", Options(align=1), Settings())
    pruned = apply_plan(subject, plan)
    assert verify(subject, plan, pruned).passed
    monkeypatch.setattr(trial, "CHILD", DIES)
    checks = verify(subject, plan, pruned).checks
    assert [c.name for c in checks if not c.passed] == ["dense runs"]
    assert checks[-1].name == "dense runs" and "--no-verify" in checks[-1].detail

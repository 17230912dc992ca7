"""The oracle over grouped convolutions: what it finds, and what it lets through."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.plan import Plan
from prunec.frontends.onnx import load
from prunec.passes.grouping import Grouping
from prunec.passes.options import Options
from prunec.passes.recovery.storage import store
from prunec.runtime.compile import Settings, compile_model, plan_for
from prunec.runtime.regroup.prove import prove_lossless, verify_grouped
from prunec.runtime.subject import Subject, open_model

pytest.importorskip("onnxruntime")


def residual_net(weights: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """Conv 3 -> 8, then 8 -> 8 beside a shortcut, Relu, mean over space, Gemm 8 -> 3."""
    rng = np.random.default_rng(0)
    shapes = {"w0": (8, 3, 3, 3), "w1": (8, 8, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "w3": (8, 3)}
    stored = {name: rng.standard_normal(shape) for name, shape in shapes.items()} | (weights or {})
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["s"], "c0", **pads),
        helper.make_node("Relu", ["s"], ["r0"], "r0"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["a"], "c1", **pads),
        helper.make_node("Relu", ["a"], ["r1"], "r1"),
        helper.make_node("Conv", ["r1", "w2"], ["b"], "c2", **pads),
        helper.make_node("Add", ["b", "r0"], ["sum"], "add"),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "w3"], ["y"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@cache
def in_blocks(fold: str = "auto") -> tuple[Subject, Plan, ir.Model]:
    """The network in 4 groups, compiled and proved."""
    subject = open_model(load(residual_net()))
    options = Options(grouping=Grouping(conv=4, fold=fold))
    plan = plan_for(subject, "", options, Settings())
    return subject, plan, compile_model(subject, plan, Settings()).model


def failing(subject: Subject, plan: Plan, model: ir.Model, **how: bool) -> set[str]:
    return {c.name for c in verify_grouped(subject, plan, model, **how).checks if not c.passed}


def changed(model: ir.Model, name: str, change: float) -> ir.Model:
    copy = model.clone()
    value = copy.graph.initializers[name]
    assert value.const_value is not None
    store(value, value.const_value.numpy() + np.float32(change))
    return copy


@pytest.mark.parametrize("fold", ["joint", "free"])
def test_a_grouped_file_is_proved_from_its_plan(fold: str) -> None:
    subject, plan, model = in_blocks(fold)
    found = verify_grouped(subject, Plan.from_json(plan.to_json()), model)
    assert found.passed, [c for c in found.checks if not c.passed]
    names = {check.name for check in found.checks}
    assert {"masked == grouped", "exact blocks", "grouped as planned", "grouped cost"} <= names
    (exact,) = (c.detail for c in found.checks if c.name == "exact blocks")
    assert "equal in every bit" in exact


def test_another_weight_is_found_unless_it_was_retrained() -> None:
    subject, plan, model = in_blocks()
    other = changed(model, "w1", 0.5)
    assert failing(subject, plan, other) == {"grouped as planned"}
    assert not failing(subject, plan, other, retrained=True)


def test_another_order_of_channels_is_found_in_any_case() -> None:
    subject, plan, model = in_blocks("free")
    copy = model.clone()
    gather = next(node for node in copy.graph if node.op_type == "Gather")
    indices = gather.inputs[1]
    assert indices is not None
    assert indices.const_value is not None
    store(indices, indices.const_value.numpy()[::-1])
    assert failing(subject, plan, copy, retrained=True) == {"grouped as planned"}


def test_a_plan_that_claims_less_is_found() -> None:
    subject, plan, model = in_blocks()
    dense, grouped = plan.costs["flops"]
    claimed = replace(plan, costs={**plan.costs, "flops": (dense, grouped - 1)})
    assert failing(subject, claimed, model) == {"grouped cost"}


def test_what_is_detected_is_compared_with_the_model_as_it_came(tmp_path: Path) -> None:
    """A masked model with a dead channel: fewer parameters, the same outputs."""
    rng = np.random.default_rng(1)
    ids = rng.permutation(8) % 2
    w1, w2 = rng.standard_normal((2, 8, 8, 3, 3))
    w1[ids[:, None] != ids[None, :]] = 0
    w2[ids[:, None] != ids[None, :]] = 0
    subject = open_model(load(residual_net({"w1": w1, "w2": w2})))
    options = Options(grouping=Grouping(detect_groups=True, detect_dead=True))
    plan = plan_for(subject, "", options, Settings())
    assert {p.groups for p in plan.groups.values()} == {2}
    result = compile_model(subject, plan, Settings(), tmp_path / "a.onnx", tmp_path / "a.json")
    assert result.report.gathers == ()
    assert result.report.verification is not None
    assert result.report.verification.passed
    details = {c.name: c.detail for c in result.report.verification.checks}
    assert details["zeros off blocks"].startswith("2 weights")
    assert "equal in every bit" in details["exact blocks"]
    assert "lossless" in details
    w1[tuple(np.argwhere(ids[:, None] != ids[None, :])[0])] = 1e-30
    other = open_model(load(residual_net({"w1": w1, "w2": w2})))
    (zeros, _) = prove_lossless(other, plan, other.model)
    assert not zeros.passed
    assert "w1: 1 kernels off the blocks" in zeros.detail
    assert plan.costs["params"][1] == plan.costs["params"][0] - (w1.size + w2.size) // 2


def test_dead_channels_leave_without_loss() -> None:
    rng = np.random.default_rng(1)
    w1, w2, b1 = *rng.standard_normal((2, 8, 8, 3, 3)), rng.standard_normal(8)
    w1[[1, 4]], b1[[1, 4]], w2[:, 6] = 0, 0, 0
    subject = open_model(load(residual_net({"w1": w1, "w2": w2, "b1": b1})))
    options = Options(grouping=Grouping(detect_dead=True))
    plan = plan_for(subject, "", options, Settings())
    result = compile_model(subject, plan, Settings())
    assert plan.hyperedges["w1:0"].positions == (0, 2, 3, 5, 7)
    assert result.report.verification is not None
    assert any(c.name == "lossless" and c.passed for c in result.report.verification.checks)

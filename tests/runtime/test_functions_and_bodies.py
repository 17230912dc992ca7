"""Whole prunes of models with control flow and functions, proven by the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from texts import weight, written

from prunec.frontends.onnx import load, save
from prunec.passes.options import Options
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime import verify as verification
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.subject import open_model
from prunec.runtime.verify import Verification, verify
from prunec.tools.cli import main

pytest.importorskip("onnxruntime")

MODEL = """
g (float[N,6] x, bool c) => (float[N,3] y) {
  h = my.layer <slope = 0.5> (x, w1, b1)
  z = If (c) <
    then_branch = then () => (float[N,8] o) { o = my.layer(h, w2, b2) },
    else_branch = other () => (float[N,8] o) { a = MatMul(h, w3) o = my.swish(a) }
  >
  i = my.regroup(z)
  y = MatMul(i, w4)
}
<domain: "my", opset_import: ["" : 18]>
layer <slope: float = 0.25> (x, w, b) => (y) {
  a = MatMul(x, w)
  c = Add(a, b)
  y = LeakyRelu <alpha: float = @slope> (c)
}
<domain: "my", opset_import: ["" : 18]>
swish (x) => (y) { s = Sigmoid(x) y = Mul(x, s) }
<domain: "my", opset_import: ["" : 18]>
regroup (x) => (y) {
  s = Constant <value_ints = [-1, 2, 4]> ()
  a = Reshape(x, s)
  t = Constant <value_ints = [-1, 8]> ()
  y = Reshape(a, t)
}
"""


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return written(
        MODEL,
        w1=weight(1, 6, 8),
        b1=weight(2, 8),
        w2=weight(3, 8, 8),
        b2=weight(4, 8),
        w3=weight(5, 8, 8),
        w4=weight(6, 8, 3),
    )


def prune(model: onnx.ModelProto) -> tuple[ir.Model, Verification]:
    subject = open_model(model)
    plan = plan_for(subject, "flops=0.12", Options(solver=Greedy(), align=1), Settings())
    pruned = apply_plan(subject, plan)
    return pruned, verify(subject, plan, pruned)


def test_most_of_the_flops_leave_and_all_checks_pass(model: onnx.ModelProto) -> None:
    pruned, result = prune(model)
    result.require()
    assert [node.op_type for node in pruned.graph] == [
        "layer",
        "If",
        "Reshape",
        "Reshape",
        "MatMul",
    ]
    checks = {check.name: check.detail for check in result.checks}
    assert checks["functions"] == "expanding them changes nothing; 3 calls are left"


def test_a_call_that_computes_something_else_is_noticed(model: onnx.ModelProto) -> None:
    subject = open_model(model)
    plan = plan_for(subject, "flops=0.12", Options(solver=Greedy(), align=1), Settings())
    pruned = apply_plan(subject, plan)
    call = pruned.graph[0]
    call.attributes["slope"] = ir.AttrFloat32("slope", 0.125)
    result = verify(subject, plan, pruned)
    assert not result.passed


def test_wrongly_expanded_functions_are_noticed(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = open_model(model)
    plan = plan_for(subject, "flops=0.12", Options(solver=Greedy(), align=1), Settings())
    pruned = apply_plan(subject, plan)
    for node in subject.model.graph:
        if node.op_type == "LeakyRelu":
            node.attributes["alpha"] = ir.AttrFloat32("alpha", 0.75)
    wrong = verification.inlined(pruned)
    for node in wrong.graph:
        if node.op_type == "LeakyRelu":
            node.attributes["alpha"] = ir.AttrFloat32("alpha", 0.75)
    monkeypatch.setattr(verification, "inlined", lambda _: wrong)
    result = verify(subject, plan, pruned)
    assert "functions" in {c.name for c in result.checks if not c.passed}


def test_the_command_line_prunes_and_verifies_them(model: onnx.ModelProto, tmp_path: Path) -> None:
    source, out = tmp_path / "net.onnx", tmp_path / "small.onnx"
    save(load(model), source)
    assert main([str(source), "--budget", "flops=0.12", "--align", "1", "-o", str(out)]) == 0
    plan = tmp_path / "small.plan.json"
    assert main(["verify", str(source), str(out), str(plan)]) == 0
    written_model = onnx.load(out)
    assert [f.name for f in written_model.functions] == ["layer", "swish"]
    assert all(np.prod(t.dims) <= 8 * 8 for t in written_model.graph.initializer)


BRANCHES = """
g (float[N,6] x) => (float[N,3] y) {
  h = MatMul(x, w0)
  i = my.block(h, w1, w2, b2)
  a = MatMul(i, w3)
  b = Relu(a)
  c = MatMul(b, w4)
  d = Add(c, b4)
  k = my.join(i, d)
  y = MatMul(k, w5)
}
<domain: "my", opset_import: ["" : 18]>
block (x, w, v, b) => (y) {
  a = MatMul(x, w)
  c = Relu(a)
  d = MatMul(c, v)
  e = Add(d, b)
  y = Add(x, e)
}
<domain: "my", opset_import: ["" : 18]>
join (x, z) => (y) { a = Add(x, z) y = Relu(a) }
"""


def test_branches_vanish_in_functions_and_between_them(tmp_path: Path) -> None:
    shapes = {"w0": (6, 8), "w1": (8, 4), "w2": (4, 8), "w3": (8, 5), "w4": (5, 8), "w5": (8, 3)}
    stored = {name: weight(k, *shape) for k, (name, shape) in enumerate(shapes.items())}
    model = written(BRANCHES, b2=weight(7, 8), b4=weight(8, 8), **stored)
    subject = open_model(model)
    assert len(subject.graph.branches) == 2
    options = Options(solver=Greedy(), min_keep=0, only=("w1", "w3"))
    plan = plan_for(subject, "flops=0.4", options, Settings())
    assert plan.counts(subject.graph) == (8, 0, 0)
    pruned = apply_plan(subject, plan)
    save(pruned, tmp_path / "out.onnx")
    verify(subject, plan, load(tmp_path / "out.onnx"), tmp_path / "out.onnx").require()
    left = [node.op_type for node in pruned.graph]
    assert left.count("MatMul") == 2

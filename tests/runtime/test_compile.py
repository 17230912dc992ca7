from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from nets import chain, residual

from prunec.compiler.errors import ModelError, OutputError, PlanError, UsageError, VerificationError
from prunec.compiler.plan import Plan
from prunec.frontends.onnx import to_proto
from prunec.passes.criteria.activation import Activation
from prunec.passes.options import Options
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime import compile as compiling
from prunec.runtime.check_plan import check_plan
from prunec.runtime.compile import Settings, compile_model, plan_for
from prunec.runtime.subject import Subject, open_model

pytest.importorskip("onnxruntime")
GREEDY = Options(solver=Greedy())


def planned(model: onnx.ModelProto, budget: str = "flops=0.5") -> tuple[Subject, Plan]:
    subject = open_model(model)
    return subject, plan_for(subject, budget, GREEDY, Settings())


def edited(plan: Plan, **changes: object) -> Plan:
    return Plan.from_json(json.dumps({**json.loads(plan.to_json()), **changes}))


def test_a_result_is_verified_and_within_budget() -> None:
    subject, plan = planned(chain())
    result = compile_model(subject, plan, Settings())
    assert result.report.verification is not None
    assert result.report.verification.passed
    assert result.report.costs["flops"][1] <= result.report.budget["flops"]
    json.dumps(result.report.to_dict())


def test_model_and_plan_are_written_together(tmp_path: Path) -> None:
    subject, plan = planned(residual())
    out, beside = tmp_path / "m.onnx", tmp_path / "m.json"
    compile_model(subject, plan, Settings(), out, beside)
    assert Plan.from_json(beside.read_text()) == plan
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.json", "m.onnx"]


def test_a_failed_verification_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, plan = planned(chain())
    monkeypatch.setattr(compiling, "rewrite", lambda model, *_: model.clone())
    with pytest.raises(VerificationError):
        compile_model(subject, plan, Settings(), tmp_path / "m.onnx", tmp_path / "m.json")
    assert list(tmp_path.iterdir()) == []


def test_old_files_survive_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, plan = planned(chain())
    out = tmp_path / "m.onnx"
    out.write_text("old")
    monkeypatch.setattr(compiling, "rewrite", lambda model, *_: model.clone())
    with pytest.raises(VerificationError):
        compile_model(subject, plan, Settings(), out)
    assert out.read_text() == "old"


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(chain(), path)
    subject = open_model(path)
    plan = plan_for(subject, "flops=0.5", GREEDY, Settings())
    with pytest.raises(OutputError, match="would overwrite the input"):
        compile_model(subject, plan, Settings(), path)


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    subject, plan = planned(chain())
    with pytest.raises(OutputError, match="is a directory"):
        compile_model(subject, plan, Settings(), tmp_path)


def test_a_missing_folder_is_no_place_for_an_output(tmp_path: Path) -> None:
    subject, plan = planned(chain())
    with pytest.raises(OutputError, match="cannot write to"):
        compile_model(subject, plan, Settings(), tmp_path / "none" / "m.onnx")


def test_a_plan_for_another_graph_is_refused() -> None:
    subject, _ = planned(chain())
    _, plan = planned(residual())
    with pytest.raises(PlanError, match=r"\$\.graph_sha256"):
        check_plan(subject, plan)


def test_weights_that_do_not_follow_are_refused() -> None:
    subject, plan = planned(chain())
    body = json.loads(plan.to_json())["weights"]
    name = next(iter(body))
    body[name] = dict.fromkeys(body[name], "0")
    with pytest.raises(PlanError, match=r"\$\.weights\["):
        check_plan(subject, edited(plan, weights=body))


def test_costs_that_are_not_the_models_are_refused() -> None:
    subject, plan = planned(chain())
    body = json.loads(plan.to_json())["costs"]
    body["params"]["dense"] += 1
    with pytest.raises(PlanError, match=r"\$\.costs\['params'\]"):
        check_plan(subject, edited(plan, costs=body))


@pytest.mark.parametrize(
    ("budget", "message"),
    [({"flops": 1}, "exceeds 1"), ({"latency": 1}, "unknown resource")],
)
def test_budgets_that_do_not_hold_are_refused(budget: dict[str, int], message: str) -> None:
    subject, plan = planned(chain())
    with pytest.raises(PlanError, match=message):
        check_plan(subject, edited(plan, budget=budget))


def test_a_criterion_that_needs_data_says_so() -> None:
    subject, _ = planned(chain())
    with pytest.raises(UsageError, match="--data"):
        plan_for(subject, "flops=0.5", Options(Activation(), Greedy()), Settings())


def test_strict_makes_an_unknown_operator_an_error() -> None:
    model = chain()
    relu = next(n for n in model.graph.node if n.op_type == "Relu")
    relu.domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    assert open_model(model).graph.diagnostics
    with pytest.raises(ModelError, match="--strict"):
        open_model(model, strict=True)


def test_the_same_plan_gives_the_same_bytes() -> None:
    subject, plan = planned(residual())
    a, b = (compile_model(subject, plan, Settings(verify=False)) for _ in range(2))
    first, second = (to_proto(r.model).SerializeToString(deterministic=True) for r in (a, b))
    assert first == second

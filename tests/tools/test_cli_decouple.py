"""--decouple, from the command line and from Python to the plan and back."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from nets import conv
from properties.builder import Builder
from tiny import prunec

import prunec as package
from prunec.compiler.errors import UsageError

Capture = pytest.CaptureFixture[str]
BUDGET = ("--budget", "flops=0.5", "--align", "1")
PAIRWISE = ("--objective", "pairwise", "--decouple")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return residual(tmp_path / "net.onnx", 8)


def residual(path: Path, channels: int) -> Path:
    """A stem, two residual blocks, a head."""
    b = Builder(3, 17, batch=1)
    x = conv(b, b.input(1, 3, 4, 4), "stem", channels)
    for block in ("one", "two"):
        inner = b.relu(conv(b, b.relu(x), f"{block}.a", channels, 3))
        x = b.add("Add", [x, conv(b, inner, f"{block}.b", channels, 3)])
    b.output(conv(b, b.relu(x), "head", 3))
    onnx.save(b.model(), path)
    return path


def test_it_needs_an_objective_that_knows_who_reads_what(model: Path, capsys: Capture) -> None:
    refused = prunec(capsys, model, *BUDGET, "--decouple")
    assert refused.code == 2
    assert "--decouple needs --objective pairwise" in refused.complaint()


@pytest.mark.parametrize("resource", ["activations", "memory"])
def test_a_budget_of_activations_is_refused_with_the_reason(
    model: Path, capsys: Capture, resource: str
) -> None:
    refused = prunec(capsys, model, "--budget", f"{resource}=0.5", *PAIRWISE)
    assert refused.code == 2
    assert f"no budget of {resource}: what a decoupled addition stores" in refused.complaint()


@pytest.mark.parametrize("solver", ["auto", "milp"])
def test_a_budget_that_additions_forbid_is_infeasible(
    tmp_path: Path, capsys: Capture, solver: str
) -> None:
    """Each channel of the output is written by one operand or the other: one of each won't do."""
    b = Builder(3, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "stem", 4)
    b.output(b.add("Add", [x, conv(b, b.relu(x), "branch", 4)]))
    onnx.save(b.model(), tmp_path / "net.onnx")
    more = ("--budget", "flops=0.18", "--align", "1", "--solver", solver)
    refused = prunec(capsys, tmp_path / "net.onnx", *PAIRWISE, *more)
    assert refused.code == 3
    assert "no choice keeps to every limit" in refused.complaint()


def test_inspect_counts_the_additions(model: Path, capsys: Capture) -> None:
    text = prunec(capsys, "inspect", model, "--decouple").out
    assert "2 additions of which operands and result may keep different channels" in text
    body = json.loads(prunec(capsys, "inspect", model, "--decouple", "--json").out)
    assert len(body["joins"]) == 2
    assert json.loads(prunec(capsys, "inspect", model, "--json").out)["joins"] == []


def test_a_decoupled_model_is_proven_and_its_plan_applies_again(
    model: Path, capsys: Capture
) -> None:
    plan, again = model.with_suffix(".plan.json"), model.parent / "again.onnx"
    first = model.with_suffix(".pruned.onnx")
    done = prunec(capsys, model, *BUDGET, *PAIRWISE, "--solver", "lagrangian")
    assert done.code == 0, done.err
    options = json.loads(plan.read_text())["options"]
    assert options["decouple"] is True
    assert isinstance(options["slow_joins"], list)
    applied = prunec(capsys, "apply", model, plan, "-o", again)
    assert applied.code == 0, applied.err
    assert again.read_bytes() == first.read_bytes()
    assert prunec(capsys, "verify", model, again, plan).code == 0


def test_more_freedom_never_lowers_what_is_kept(tmp_path: Path, capsys: Capture) -> None:
    model, kept = residual(tmp_path / "small.onnx", 4), []
    for more in (PAIRWISE[:2], PAIRWISE):
        done = prunec(capsys, model, *BUDGET, *more, "--solver", "milp")
        assert done.code == 0, done.err
        kept.append(json.loads(model.with_suffix(".plan.json").read_text())["objective"])
    assert kept[1] >= kept[0] > 0


def test_an_edited_plan_that_breaks_an_addition_is_refused(model: Path, capsys: Capture) -> None:
    plan = model.with_suffix(".plan.json")
    assert prunec(capsys, model, "--budget", "flops=0.999", "--align", "1", *PAIRWISE).code == 0
    body = json.loads(plan.read_text())
    for name in ("stem:0", "one.b:0"):
        body["hyperedges"][name] |= {"kept": "0", "count": 1}
    plan.write_text(json.dumps(body))
    refused = prunec(capsys, "apply", model, plan, "-o", model.parent / "out.onnx")
    assert refused.code == 1
    assert "would carry a channel that nobody writes" in refused.err


def test_python_offers_the_same(model: Path) -> None:
    assert len(package.inspect(model, decouple=True).joins) == 2
    with pytest.raises(UsageError, match="--objective pairwise"):
        package.prune(model, "flops=0.5", decouple=True)

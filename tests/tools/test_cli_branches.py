"""--min-keep 0 and --kernel-positions, from the command line to the plan and back."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from nets import residual
from tiny import prunec, save

import prunec as package
from prunec.compiler.errors import PlanError, UsageError

Capture = pytest.CaptureFixture[str]

pytest.importorskip("onnxruntime")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(residual(), tmp_path / "net.onnx")


def kernels(path: Path) -> dict[str, list[int]]:
    return {t.name: list(t.dims[2:]) for t in onnx.load(path).graph.initializer}


def edited(path: Path, name: str, kept: str, count: int) -> Path:
    body = json.loads(path.read_text())
    body["hyperedges"][name].update(kept=kept, count=count)
    path.write_text(json.dumps(body))
    return path


def test_a_branch_vanishes_from_the_file(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, model, "--budget", "flops=0.3", "--min-keep", 0, "--only", "block.a")
    assert done.code == 0, done.err
    assert "1 of them whole" in done.out
    ops = [n.op_type for n in onnx.load(model.parent / "net.pruned.onnx").graph.node]
    assert ops == ["Conv", "Conv", "Relu", "Conv"]
    plan = model.parent / "net.plan.json"
    assert json.loads(plan.read_text())["hyperedges"]["block.a.weight:0"]["kept"] == ""
    again = prunec(capsys, "apply", model, plan, "-o", model.parent / "again.onnx")
    assert again.code == 0, again.err
    assert (model.parent / "again.onnx").read_bytes() == (
        model.parent / "net.pruned.onnx"
    ).read_bytes()
    assert prunec(capsys, "verify", model, model.parent / "again.onnx", plan).code == 0


def test_inspect_says_what_may_vanish(model: Path, capsys: Capture) -> None:
    body = json.loads(prunec(capsys, "inspect", model, "--json").out)
    assert body["branches"] == [["block.a.weight:0"]]
    text = prunec(capsys, "inspect", model).out
    assert "1 branches may vanish whole with --min-keep 0, the first block.a.weight:0" in text


def test_a_configuration_may_close_a_branch(model: Path, capsys: Capture) -> None:
    config = model.parent / "prunec.toml"
    config.write_text("[hyperedges.'block.a']\nmin_keep = 0\n")
    words = ("--budget", "flops=0.3", "--only", "block.a", "--config", config)
    assert prunec(capsys, model, *words).code == 0
    assert "block.a.weight" not in kernels(model.parent / "net.pruned.onnx")


def test_a_plan_can_not_empty_what_must_stay(model: Path, capsys: Capture) -> None:
    prunec(capsys, "plan", model, "--budget", "flops=0.5")
    plan = edited(model.parent / "net.plan.json", "stem.weight:0", "", 0)
    text = prunec(capsys, "apply", model, plan, "-o", model.parent / "x.onnx").complaint()
    assert "at least one channel group must stay" in text


def test_rows_and_columns_leave(model: Path, capsys: Capture) -> None:
    words = ("--budget", "flops=0.4", "--kernel-positions", "layer", "--only", ":[23]$")
    done = prunec(capsys, model, *words)
    assert done.code == 0, done.err
    assert kernels(model.parent / "net.pruned.onnx")["block.a.weight"] != [3, 3]
    plan = model.parent / "net.plan.json"
    assert json.loads(plan.read_text())["options"]["kernels"] is True
    again = prunec(capsys, "apply", model, plan, "-o", model.parent / "again.onnx")
    assert again.code == 0, again.err


def test_by_default_kernels_stay(model: Path, capsys: Capture) -> None:
    assert prunec(capsys, model, "--budget", "flops=0.4").code == 0
    assert kernels(model.parent / "net.pruned.onnx")["block.a.weight"] == [3, 3]


def test_a_plan_can_not_keep_positions_that_no_convolution_has(
    model: Path, capsys: Capture
) -> None:
    prunec(capsys, "plan", model, "--budget", "flops=0.4", "--kernel-positions", "layer")
    plan = edited(model.parent / "net.plan.json", "block.a.weight:2", "0", 1)
    text = prunec(capsys, "apply", model, plan, "-o", model.parent / "x.onnx").complaint()
    assert "no convolution can have these positions alone" in text


def test_from_python_it_is_the_same(model: Path) -> None:
    result = package.prune(model, "flops=0.3", only="block.a", min_keep=0, kernel_positions="layer")
    plan = result.plan
    assert plan.options["kernels"] is True
    assert package.apply(model, plan).report.costs == result.report.costs
    assert package.inspect(model, kernel_positions="layer").subsets
    with pytest.raises(UsageError, match="kernel positions 'some'"):
        package.inspect(model, kernel_positions="some")
    with pytest.raises(PlanError):
        package.apply(residual(opset=18), plan)

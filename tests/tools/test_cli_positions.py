"""--kernel-positions per-filter from the command line to a proven file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny import prunec, save, two_convs

import prunec as package
from prunec.compiler.errors import PlanError, UsageError
from prunec.compiler.plan import Plan

Capture = pytest.CaptureFixture[str]
PER_FILTER = ("--kernel-positions", "per-filter", "--solver", "greedy", "--align", "1")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save(two_convs(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def zero_share(path: Path) -> float:
    weights = [numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer]
    gone = [~w.any(axis=1) for w in weights if w.ndim == 4]
    return float(sum(g.sum() for g in gone) / sum(g.size for g in gone))


def test_zeros_are_written_proven_counted_and_applied_again(model: Path, capsys: Capture) -> None:
    folder = model.parent
    words = (model, "--budget", "flops=0.5", "--gamma", "0.7", *PER_FILTER)
    done = prunec(capsys, *words)
    assert done.code == 0, done.err
    assert "saves no time" in done.out
    assert 0.1 < zero_share(folder / "net.pruned.onnx") < 0.8
    plan = json.loads((folder / "net.plan.json").read_text())
    recorded = plan["options"]["kernel_positions"]
    dense = plan["costs"]["flops"]["dense"]
    assert recorded["effective"]["flops"] <= recorded["limits"]["flops"] == int(0.5 * dense)
    assert recorded["effective"]["flops"] < plan["costs"]["flops"]["pruned"]
    assert (
        plan["costs"]["flops"]["pruned"] <= plan["budget"]["flops"] == int(int(0.5 * dense) / 0.7)
    )
    again = folder / "again.onnx"
    assert prunec(capsys, "apply", model, folder / "net.plan.json", "-o", again).code == 0
    assert again.read_bytes() == (folder / "net.pruned.onnx").read_bytes()


def test_a_model_without_the_zeros_fails_the_proof(model: Path) -> None:
    made = package.prune(
        model, "flops=0.5", kernel_positions="per-filter", gamma=0.7, solver="greedy", verify=False
    )
    assert package.verify(model, made.model, made.plan).passed
    without = {k: v for k, v in made.plan.options.items() if k != "kernel_positions"}
    plain = Plan.from_json(made.plan.to_json().replace('"kernel_positions"', '"other"'))
    assert set(plain.options) - set(without) == {"other"}
    assert not package.verify(model, made.model, plain).passed


def test_an_edited_record_is_refused(model: Path) -> None:
    made = package.prune(
        model, "flops=0.5", kernel_positions="per-filter", gamma=0.7, solver="greedy", verify=False
    )
    effective = made.plan.options["kernel_positions"]["effective"]["flops"]
    edited = made.plan.to_json().replace(f'"flops": {effective}', f'"flops": {effective - 1}')
    assert edited != made.plan.to_json()
    with pytest.raises(PlanError, match="effective"):
        package.apply(model, Plan.from_json(edited))


def test_gamma_1_zeroes_nothing(model: Path) -> None:
    made = package.prune(
        model, "flops=0.5", kernel_positions="per-filter", gamma=1.0, solver="greedy", verify=False
    )
    assert made.plan.options["kernel_positions"]["zeroed"] == {}
    weights = [t.numpy() for t in (v.const_value for v in made.model.graph.initializers.values())]
    assert all(np.any(w) for w in weights)


@pytest.mark.parametrize(
    ("budget", "gamma", "said"),
    [
        ("bytes=0.5", 0.8, "flops or params"),
        ("flops=0.5", 0.0, "must be in"),
        ("flops=0.5", 2.0, "must be in"),
    ],
)
def test_what_has_no_meaning_is_refused(model: Path, budget: str, gamma: float, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        package.prune(model, budget, kernel_positions="per-filter", gamma=gamma, verify=False)


def test_a_sweep_says_no(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, "sweep", model, "--budget", "flops=0.8|0.6", *PER_FILTER)
    assert done.code == 2
    assert "per-filter is for one model" in done.complaint()

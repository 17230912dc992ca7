"""--objective from the command line to the plan and the summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import prunec, save, two_convs

import prunec as package
from prunec.passes.pairwise import OBJECTIVES, PAIRWISE_SOLVERS
from prunec.tools.options import COMPONENTS

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save(two_convs(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_pairwise_is_chosen_recorded_proven_and_shown(model: Path, capsys: Capture) -> None:
    words = (model, "--budget", "flops=0.6", "--objective", "pairwise{normalise=none}")
    done = prunec(capsys, *words, "--solver", "lagrangian{kicks=2}")
    assert done.code == 0, done.err
    assert "pairwise{normalise=none}" in done.out
    plan = json.loads((model.parent / "net.plan.json").read_text())
    assert plan["components"]["objective"] == "pairwise{normalise=none}"
    assert plan["components"]["solver"] == "lagrangian{kicks=2}"


def test_python_does_the_same(model: Path, capsys: Capture) -> None:
    prunec(capsys, "plan", model, "--budget", "flops=0.6", "--objective", "pairwise")
    plan = json.loads((model.parent / "net.plan.json").read_text())
    result = package.prune(model, "flops=0.6", objective="pairwise", verify=False)
    assert result.plan.objective == plan["objective"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--objective", "pairwis"), "did you mean 'pairwise'"),
        (("--objective", "pairwise", "--solver", "cplex"), "unknown pairwise solver 'cplex'"),
        (("--objective", "pairwise", "--score", "random"), "--score has no effect"),
        (("--solver", "lagrangian"), "unknown solver 'lagrangian'"),
    ],
)
def test_mistakes_get_one_line(
    model: Path, capsys: Capture, words: tuple[str, ...], said: str
) -> None:
    done = prunec(capsys, model, "--budget", "flops=0.6", *words)
    assert done.code == 2
    assert said in done.complaint()


def test_names_in_the_help_are_those_of_the_tables(capsys: Capture) -> None:
    assert COMPONENTS["objectives"] == tuple(OBJECTIVES)
    assert COMPONENTS["pairwise solvers"] == tuple(PAIRWISE_SOLVERS)
    shown = prunec(capsys, "--help-components").out
    for name in (*OBJECTIVES, *PAIRWISE_SOLVERS):
        assert f"  {name}" in shown

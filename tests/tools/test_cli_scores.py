"""``--save-scores`` and ``--scores`` on the command line; the criteria that need gradients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import array, files, prunec, save, two_convs

Capture = pytest.CaptureFixture[str]
BUDGET = ("--budget", "flops=0.6")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(two_convs(), tmp_path / "net.onnx")


def plan_of(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", ["s.json", "s.npz"])
def test_scores_are_written_and_used_by_every_command(
    model: Path, tmp_path: Path, capsys: Capture, name: str
) -> None:
    scores, spec = tmp_path / name, "magnitude{p=1}"
    first = prunec(capsys, "plan", model, *BUDGET, "--score", spec, "--save-scores", scores)
    assert first.code == 0, first.err
    direct = plan_of(tmp_path / "net.plan.json")
    for command in (("plan", model, *BUDGET), (model, *BUDGET, "--no-verify")):
        out = tmp_path / "net.plan.json"
        out.unlink()
        ran = prunec(capsys, *command, "--scores", scores)
        assert ran.code == 0, ran.err
        assert plan_of(out)["hyperedges"] == direct["hyperedges"]
        assert plan_of(out)["components"]["criterion"] == spec
        assert len(plan_of(out)["options"]["scores"]["sha256"]) == 64
    ran = prunec(
        capsys, "sweep", model, "--budget", "flops=0.8..0.6:0.2", "--scores", scores, "--no-plot"
    )
    assert ran.code == 0, ran.err
    assert ran.out.count("flops=0.") >= 2


def test_a_plan_from_scores_can_be_applied(model: Path, tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("onnxruntime")
    scores = tmp_path / "s.json"
    assert prunec(capsys, "plan", model, *BUDGET, "--save-scores", scores).code == 0
    assert prunec(capsys, "plan", model, *BUDGET, "--scores", scores).code == 0
    assert prunec(capsys, "apply", model, tmp_path / "net.plan.json").code == 0


def test_scores_of_another_model_write_nothing(
    model: Path, tmp_path: Path, capsys: Capture
) -> None:
    scores = tmp_path / "s.json"
    assert prunec(capsys, "plan", model, *BUDGET, "--save-scores", scores).code == 0
    other = save(two_convs(), tmp_path / "other.onnx")
    changed = other.read_bytes()
    weight = array(1, seed=77).tobytes()
    other.write_bytes(changed.replace(two_bytes(other), weight, 1))
    before = files(tmp_path)
    ran = prunec(capsys, other, *BUDGET, "--scores", scores)
    assert ran.code == 1
    assert "other weights" in ran.complaint()
    assert files(tmp_path) == before


def two_bytes(path: Path) -> bytes:
    """The first four bytes of the first weight of a model."""
    import onnx

    return onnx.load(path).graph.initializer[0].raw_data[:4]


@pytest.mark.parametrize("score", ["fisher{samples=8}", "taylor"])
def test_gradient_criteria_from_the_command_line(
    model: Path, tmp_path: Path, capsys: Capture, score: str
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    np.savez(tmp_path / "data.npz", x=array(12, 3, 6, 6), labels=np.arange(12) % 3)
    scores = tmp_path / "s.json"
    ran = prunec(
        capsys, model, *BUDGET, "--score", score, "--data", tmp_path / "data.npz",
        "--save-scores", scores,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    body = json.loads(scores.read_text())
    assert body["criterion"] == score
    assert body["samples"] == (8 if "8" in score else 12)
    assert any(any(own) for own in body["hyperedges"].values())
    ran = prunec(capsys, "plan", model, *BUDGET, "--score", score)
    assert ran.code == 2
    assert "needs data; give it with --data" in ran.complaint()


def test_the_components_are_shown(capsys: Capture) -> None:
    shown = prunec(capsys, "--help-components").out
    assert "fisher{samples=512,batch=64,labels=auto,targets=sketch,seed=0}" in shown
    assert "taylor{statistic=abs,samples=512" in shown

"""``prunec eval``, and ``--eval-data`` and ``--metric`` of the other commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import prunec

from prunec.tools.demo import DIGITS, IMAGES

pytest.importorskip("onnxruntime")
Capture = pytest.CaptureFixture[str]
JUDGE = """
def share(outputs, labels):
    (scores,) = outputs.values()
    return (scores.argmax(1) == labels).sum(), len(labels)


def broken(outputs, labels):
    raise KeyError("scores")


class Seen:
    def __init__(self):
        self.samples = 0

    def update(self, outputs, labels):
        self.samples += len(next(iter(outputs.values())))

    def result(self):
        return self.samples
"""


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    path = tmp_path / "judge.py"
    path.write_text(JUDGE)
    return path


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """The first hundred labelled digits."""
    with np.load(IMAGES) as data:
        arrays = {name: data[name][:100] for name in data.files}
    np.savez(tmp_path / "half.npz", **arrays)
    return tmp_path / "half.npz"


def test_models_stand_side_by_side(capsys: Capture) -> None:
    done = prunec(capsys, "eval", DIGITS, DIGITS, "--data", IMAGES)
    assert (done.code, done.err) == (0, "")
    for word in ("top-1", "top-5", "change", "99.78%", "+0.00 pp", "on 450 samples", "ran on cpu"):
        assert word in done.out, word


def test_json_has_a_value_for_every_metric(capsys: Capture, judge: Path) -> None:
    names = [f"{judge}:share", "top1", f"{judge}:Seen"]
    words = ["eval", DIGITS, "--data", IMAGES, "--metric", ",".join(names[:2])]
    done = prunec(capsys, *words, "--metric", names[2], "--samples", 90, "--json")
    (model,) = json.loads(done.out)["models"]
    assert list(model) == ["path", *names, "samples"]
    assert model[names[0]] == model["top1"]
    assert model[names[2]] == model["samples"] == 90


def test_the_first_model_is_what_others_are_compared_with(
    capsys: Capture, tmp_path: Path, half: Path
) -> None:
    out = tmp_path / "small.onnx"
    assert prunec(capsys, DIGITS, "--budget", "flops=0.2", "-o", out).code == 0
    words = ("eval", DIGITS, out, "--data", half, "--batch", 7, "--threads", 1, "--metric", "top1")
    values = json.loads(prunec(capsys, *words, "--json").out)["models"]
    drop = 100 * (values[1]["top1"] - values[0]["top1"])
    assert f"{drop:+.2f} pp" in prunec(capsys, *words).out


@pytest.mark.parametrize(
    ("metric", "message", "code"),
    [
        ("{judge}:broken", "broken failed with KeyError: 'scores'", 1),
        ("{judge}:shre", "has no function 'shre'; did you mean 'share'?", 1),
        ("{judge}.py:share", "no such file", 1),
        ("top3", "unknown metric 'top3'; did you mean 'top", 2),
        ("top1,top1", "metric 'top1' is given twice", 2),
    ],
)
def test_a_metric_that_fails_is_one_line(
    capsys: Capture, judge: Path, metric: str, message: str, code: int
) -> None:
    words = ("eval", DIGITS, "--data", IMAGES, "--metric", metric.format(judge=judge))
    done = prunec(capsys, *words)
    assert message in done.complaint()
    assert done.code == code


def test_data_is_required(capsys: Capture) -> None:
    done = prunec(capsys, "eval", DIGITS)
    assert "--data is required" in done.complaint()
    assert done.code == 2


def test_data_without_labels_needs_a_metric_that_needs_none(
    capsys: Capture, judge: Path, tmp_path: Path
) -> None:
    with np.load(IMAGES) as data:
        images = next(data[name] for name in data.files if data[name].ndim == 4)
    np.save(tmp_path / "images.npy", images)
    bare = tmp_path / "images.npy"
    assert "needs labels" in prunec(capsys, "eval", DIGITS, "--data", bare).complaint()
    done = prunec(capsys, "eval", DIGITS, "--data", bare, "--metric", f"{judge}:Seen")
    assert (done.code, "450" in done.out) == (0, True)


def test_the_report_is_on_evaluation_data(
    capsys: Capture, tmp_path: Path, half: Path, judge: Path
) -> None:
    metric = f"{judge}:share"
    words = ("--data", IMAGES, "--eval-data", half, "--metric", f"{metric},top1")
    out = tmp_path / "a.onnx"
    done = prunec(capsys, DIGITS, "--budget", "flops=0.5", *words, "-o", out, "--json")
    dense = json.loads(done.out)["accuracy"]["dense"]
    assert list(dense) == [metric, "top1", "samples"]
    assert dense[metric] == dense["top1"]
    assert dense["samples"] == 100
    words = ("--eval-data", half, "--metric", metric)
    again = prunec(capsys, "apply", DIGITS, tmp_path / "a.plan.json", *words, "-o", out)
    assert "judge.py:share of 100" in again.out


def test_a_sweep_is_judged_by_the_first_metric(
    capsys: Capture, tmp_path: Path, half: Path, judge: Path
) -> None:
    metric = f"{judge}:share"
    words = ["sweep", DIGITS, "--budget", "flops=0.9..0.5:0.4", "--eval-data", half]
    words += ["--metric", f"{metric},top1", "-o", tmp_path / "sweep", "--no-plot"]
    body = json.loads(prunec(capsys, *words, "--json").out)
    assert body["loss"] == metric
    assert body["dense"]["accuracy"]["samples"] == 100
    # Found again in the folder, in the same order: the first metric decides.
    again = json.loads(prunec(capsys, *words, "--json").out)
    assert again == body
    assert all(next(iter(point["accuracy"])) == metric for point in again["points"])
    assert "judge.py:share" in prunec(capsys, *words).out


def test_metrics_without_data_are_refused(capsys: Capture, tmp_path: Path) -> None:
    words = (DIGITS, "--budget", "flops=0.5", "--metric", "top1", "-o", tmp_path / "a.onnx")
    done = prunec(capsys, *words)
    assert "--metric needs data" in done.complaint()
    assert done.code == 2
    assert not (tmp_path / "a.onnx").exists()

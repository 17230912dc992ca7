"""``--schedule`` and ``--score reconstruction`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import array, files, prunec, save, two_convs

from prunec.passes.schedules import SCHEDULES
from prunec.passes.worth import WORTHS
from prunec.tools.options import COMPONENTS

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(two_convs(), tmp_path / "net.onnx")


def components(model: Path) -> dict[str, str]:
    found = json.loads((model.parent / "net.plan.json").read_text())["components"]
    assert isinstance(found, dict)
    return found


def test_names_are_those_of_the_tables(capsys: Capture) -> None:
    assert COMPONENTS["schedules"] == tuple(SCHEDULES)
    assert COMPONENTS["worths"] == tuple(WORTHS)
    shown = prunec(capsys, "--help-components").out
    for name in (*SCHEDULES, *WORTHS):
        assert f"  {name}" in shown


def test_a_schedule_is_recorded_and_one_shot_is_not(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, model, "--budget", "flops=0.6", "--schedule", "stepwise{steps=2}")
    assert done.code == 0, done.err
    assert components(model)["schedule"] == "stepwise{steps=2}"
    assert prunec(capsys, model, "--budget", "flops=0.6").code == 0
    assert "schedule" not in components(model)


def test_reconstruction_scores_with_data_and_sums(model: Path, capsys: Capture) -> None:
    pytest.importorskip("onnxruntime")
    data = model.parent / "data.npy"
    np.save(data, array(12, 3, 6, 6))
    done = prunec(
        capsys, model, "--budget", "flops=0.6", "--score", "reconstruction{points=2}",
        "--data", data, "--schedule", "layerwise",
    )  # fmt: skip
    assert done.code == 0, done.err
    used = components(model)
    assert used["criterion"] == "reconstruction{points=2}"
    assert used["worth"] == "sum"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--schedule", "stepwise{steps=x}"), "must be int"),
        (("--schedule", "stepwize"), "did you mean 'stepwise'"),
        (("--score", "reconstruction"), "needs data; give it with --data"),
        (("--score", "reconstruction{ridge=0}"), "ridge must be above 0"),
        (("--worth", "summ"), "did you mean 'sum'"),
    ],
)
def test_mistakes_are_told(words: tuple[str, ...], says: str, model: Path, capsys: Capture) -> None:
    before = files(model.parent)
    done = prunec(capsys, model, "--budget", "flops=0.6", *words)
    assert done.code == 2
    assert says in done.complaint()
    assert files(model.parent) == before

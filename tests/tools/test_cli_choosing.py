"""Options that choose: worths, multipliers, the guard on speed, weights in inspect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import files, prunec, save, two_convs

from prunec.runtime import compile as compiling
from prunec.runtime.bench import BenchResult, Ratio, Timing

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(two_convs(), tmp_path / "net.onnx")


def edges(model: Path, capsys: Capture) -> list[str]:
    body = json.loads(prunec(capsys, "inspect", model, "--json").out)
    return [edge["name"] for edge in body["hyperedges"]]


def plan(model: Path) -> dict:
    return json.loads((model.parent / "net.plan.json").read_text())


def test_the_worth_is_recorded_in_the_plan(model: Path, capsys: Capture) -> None:
    spec = "gator{resource=params,adaptive=false}"
    done = prunec(capsys, model, "--budget", "flops=0.6", "--worth", spec)
    assert done.code == 0, done.err
    assert plan(model)["components"]["worth"] == spec


def test_multipliers_come_from_a_file_and_are_recorded(model: Path, capsys: Capture) -> None:
    name = edges(model, capsys)[0]
    file = model.parent / "m.json"
    file.write_text(json.dumps({name: 3}))
    done = prunec(capsys, model, "--budget", "flops=0.6", "--edge-multipliers", file)
    assert done.code == 0, done.err
    assert plan(model)["options"]["edge_multipliers"] == {name: 3.0}


def test_a_multiplier_of_an_unknown_hyperedge_is_a_usage_error(
    model: Path, capsys: Capture
) -> None:
    file = model.parent / "m.json"
    file.write_text('{"nothing": 3}')
    done = prunec(capsys, model, "--budget", "flops=0.6", "--edge-multipliers", file)
    assert (done.code, done.out) == (2, "")
    assert "no hyperedge 'nothing'" in done.err


def timed(low: float) -> BenchResult:
    timings = tuple(Timing(p, 1, 1.0, 1.0, (1.0,), 1, {}) for p in ("dense", "pruned"))
    ratio = Ratio("pruned", low + 0.1, low, low + 0.2)
    return BenchResult("cpu", "", 1, 1, timings, (ratio,))


@pytest.mark.parametrize(("low", "code"), [(1.049, 5), (1.05, 0)])
def test_the_guard_goes_by_the_lower_end_of_the_interval(
    model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, low: float, code: int
) -> None:
    monkeypatch.setattr(compiling, "_bench", lambda *_: timed(low))
    done = prunec(capsys, model, "--budget", "flops=0.6", "--min-speedup", "1.05")
    assert done.code == code, done.err
    written = {"net.pruned.onnx", "net.plan.json"}
    assert set(files(model.parent)) == {"net.onnx"} | (written if code == 0 else set())
    assert ("nothing was written" in done.err) == (code == 5)


def test_an_impossible_speed_up_is_measured_and_refused(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, model, "--budget", "flops=0.6", "--min-speedup", "1e6")
    assert done.code == 5
    assert set(files(model.parent)) == {"net.onnx"}


def test_inspect_shows_weights_by_convention(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, "inspect", model, "--flops-convention", "2macs", "--json")
    own = json.loads(done.out)
    plain = json.loads(prunec(capsys, "inspect", model, "--weights", "--json").out)
    assert own["weights"]["convention"] == "2macs"
    assert own["weights"]["totals"]["flops"] == 2 * plain["costs"]["flops"]
    # What half of the channels takes away is the same share in both.
    assert own["weights"]["hyperedges"] == plain["weights"]["hyperedges"]
    assert "flops per channel" in prunec(capsys, "inspect", model, "--weights").out

"""prunec sweep on the command line."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from tiny import files, prunec, save, two_convs, without_channels

from prunec.runtime.sweep.workers import BACKENDS
from prunec.tools import sweep as command
from prunec.tools.demo import DIGITS, IMAGES

Capture = pytest.CaptureFixture[str]
BUDGET = ("--budget", "flops=0.9..0.5:0.1", "--solver", "greedy", "--align", 1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(two_convs(), tmp_path / "net.onnx")


def test_a_table_plans_and_a_result_file(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, "sweep", model, *BUDGET, "--no-plot")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split()[:3] == ["budget", "flops", "params"]
    assert [line.split()[0] for line in lines[1:6]] == [
        f"flops={v}" for v in ("0.9", "0.8", "0.7", "0.6", "0.5")
    ]
    assert all(float(line.split()[1]) <= float(line.split()[0][6:]) for line in lines[1:6])
    names = set(files(model.parent / "net.sweep"))
    assert {"sweep.json", "flops=0.9.plan.json", "flops=0.5.plan.json"} <= names
    assert not any(name.endswith((".onnx", ".png", ".svg")) for name in names)


def test_a_plan_of_a_sweep_is_one_that_apply_takes(model: Path, capsys: Capture) -> None:
    assert prunec(capsys, "sweep", model, *BUDGET, "-q", "--no-plot").out == ""
    single = model.parent / "single.json"
    words = ("--budget", "flops=0.7", *BUDGET[2:], "-o", single)
    assert prunec(capsys, "plan", model, *words).code == 0
    plan = model.parent / "net.sweep" / "flops=0.7.plan.json"
    assert plan.read_bytes() == single.read_bytes()
    assert prunec(capsys, "apply", model, plan, "--no-verify").code == 0


def test_the_document_is_that_of_the_file(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, "sweep", model, *BUDGET, "--json", "--no-plot", "-o", model.parent / "s")
    body = json.loads(done.out)
    kept = json.loads((model.parent / "s/sweep.json").read_text())
    assert body["points"] == kept["points"]
    assert body["pareto"] == kept["pareto"]
    point = body["points"][-1]
    assert point["budget"] == "flops=0.5"
    assert point["costs"]["flops"]["ratio"] <= 0.5
    assert point["predicted_loss"] == 1 - point["objective"] / point["dense_objective"]


def test_plots_are_the_same_every_time(model: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    drawn = []
    for name in ("a", "b"):
        folder = model.parent / name
        assert prunec(capsys, "sweep", model, *BUDGET, "-q", "-o", folder).code == 0
        drawn.append([(folder / f"sweep.{kind}").read_bytes() for kind in ("png", "svg")])
    assert drawn[0] == drawn[1]
    assert drawn[0][0].startswith(b"\x89PNG")
    root = ET.fromstring(drawn[0][1])
    assert root.tag.endswith("svg")
    assert b"net.onnx" in drawn[0][1]
    assert b"dc:date" not in drawn[0][1]


def test_without_matplotlib_there_is_a_note(
    model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = prunec(capsys, "sweep", model, *BUDGET)
    assert done.code == 0
    assert "no plot: a plot needs matplotlib: pip install 'prunec[sweep]'" in done.out
    assert (model.parent / "net.sweep/sweep.json").exists()


def test_the_knee_is_named_and_its_model_written(tmp_path: Path, capsys: Capture) -> None:
    words = ("--budget", "flops=0.9..0.3:0.1", "--score", "bn_scale", "--align", 8)
    folder = tmp_path / "s"
    done = prunec(capsys, "sweep", DIGITS, *words, "--knee", "--no-plot", "-o", folder)
    assert done.code == 0, done.err
    (written,) = folder.glob("*.onnx")
    label = written.name.removesuffix(".pruned.onnx")
    assert f"knee   {label}: {folder / label}.plan.json\n       {written}" in done.out
    assert "* knee" in next(line for line in done.out.splitlines() if line.startswith(label))


def test_a_front_without_a_knee_is_exit_code_1(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, "sweep", model, "--budget", "flops=0.9|0.5", "--knee", "--no-plot")
    assert done.code == 1
    assert "the front has no knee" in done.err
    assert "flops=0.5" in done.out


def test_points_out_of_reach_are_shown(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, "sweep", model, "--budget", "flops=0.5|0.0001", "--no-plot")
    assert done.code == 0
    assert "flops=0.0001: infeasible: budget flops <=" in done.out
    assert any("infeasible" in line for line in done.out.splitlines()[:3])
    none = prunec(capsys, "sweep", model, "--budget", "flops=0.0002|0.0001", "--no-plot")
    assert none.code == 3
    assert none.err == "prunec: no point could be reached\n"


def test_accuracy_proofs_and_models(tmp_path: Path, capsys: Capture) -> None:
    words = ("--budget", "flops=0.6|0.5", "--score", "bn_scale", "--align", 8, "--no-plot")
    folder = tmp_path / "s"
    done = prunec(
        capsys, "sweep", DIGITS, *words, "--data", IMAGES, "--samples", 64, "--verify",
        "--models", "--json", "-o", folder,
    )  # fmt: skip
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert body["loss"] == "top1"
    assert body["dense"]["accuracy"]["samples"] == 64
    for point in body["points"]:
        assert point["verification"]["passed"]
        assert (folder / point["model"]).exists()
        assert 0 < point["accuracy"]["top1"] <= 1
    table = prunec(capsys, "sweep", DIGITS, *words, "--data", IMAGES, "--samples", 64, "-o", folder)
    assert "dense  top-1" in table.out
    assert "recovery  least-squares" in table.out
    assert "info[fitted-samples]" in table.out
    plain = prunec(
        capsys, "sweep", DIGITS, *words, "--data", IMAGES, "--samples", 64, "--recover", "none",
        "-o", tmp_path / "plain",
    )  # fmt: skip
    assert "recovery" not in plain.out
    assert "fitted-samples" not in plain.out
    assert "top-1" in table.out.splitlines()[0].split()


def test_a_failed_proof_is_exit_code_4(
    model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prunec.runtime import verify as verifying

    wrong = verifying.Verification((verifying.Check("cost", False, "made up"),), None, 0.0)
    monkeypatch.setattr(verifying, "verify", lambda *_, **__: wrong)
    done = prunec(capsys, "sweep", model, *BUDGET, "--verify", "--no-plot")
    assert done.code == 4
    assert "not verified" in done.out
    assert done.err == "prunec: a point is not proven\n"


def test_latency_is_a_column(model: Path, capsys: Capture) -> None:
    words = ("--budget", "flops=0.9|0.5", *BUDGET[2:], "--no-plot", "--bench")
    done = prunec(capsys, "sweep", model, *words)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].split()[-2:] == ["time", "speed-up"]
    assert "dense  time" in done.out
    body = json.loads(prunec(capsys, "sweep", model, *words, "--against", "time", "--json").out)
    assert body["against"] == "time"
    assert body["points"][0]["latency"]["threads"] == 1


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ((), 2, "--budget is required"),
        (("--budget", "flops=0.5"), 2, "needs a budget with a range"),
        (("--budget", "flops=0.9..0.5"), 2, "FIRST..LAST:STEP"),
        (("--budget", "flips=0.9|0.5"), 2, "unknown resource 'flips'"),
        ((*BUDGET, "--backend", "dask"), 2, "needs --address"),
        ((*BUDGET, "--backend", "slurm"), 2, "--backend"),
        ((*BUDGET, "--jobs", "-1"), 2, "at least 0"),
        ((*BUDGET, "--against", "time"), 2, "needs --bench"),
        ((*BUDGET, "-o", "missing/folder"), 1, "does not exist"),
        ((*BUDGET, "-o", "small.onnx"), 2, "a folder of many files"),
        ((*BUDGET, "--min-speedup", "2"), 2, "unknown option '--min-speedup'"),
    ],
)
def test_faults(
    model: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...],
    code: int,
    part: str,
) -> None:
    monkeypatch.chdir(model.parent)
    done = prunec(capsys, "sweep", model, *words)
    assert done.code == code
    assert part in done.complaint()
    assert list(files(model.parent)) == ["net.onnx"]


def test_a_file_where_the_folder_goes_is_refused(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, "sweep", model, *BUDGET, "-o", model)
    assert done.code == 1
    assert "is not a folder" in done.complaint()


def test_a_model_without_channels_is_refused(tmp_path: Path, capsys: Capture) -> None:
    done = prunec(capsys, "sweep", save(without_channels(), tmp_path / "n.onnx"), *BUDGET)
    assert done.code == 3
    assert "no channel of this model can be removed" in done.complaint()


def test_backends_are_those_of_the_runtime() -> None:
    assert command.BACKENDS == BACKENDS


def test_options_can_come_from_a_file(model: Path, capsys: Capture) -> None:
    config = model.parent / "prunec.toml"
    config.write_text('budget = { flops = "0.9|0.5" }\nsolver = "greedy"\nverify = true\n')
    done = prunec(capsys, "sweep", model, "--config", config, "--no-plot", "--json")
    assert done.code == 0, done.err
    assert [p["budget"] for p in json.loads(done.out)["points"]] == ["flops=0.9", "flops=0.5"]

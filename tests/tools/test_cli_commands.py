"""The commands besides the main job."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from tiny import prunec, save, two_convs

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(two_convs(), tmp_path / "net.onnx")


@pytest.fixture
def pruned(model: Path, capsys: Capture) -> Path:
    assert prunec(capsys, model, "--budget", "flops=0.5", "--no-verify", "-q").code == 0
    return model.parent / "net.pruned.onnx"


def test_inspect_lists_hyperedges_with_shares(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, "inspect", model)
    assert done.code == 0
    assert "w1:0" in done.out
    body = json.loads(prunec(capsys, "inspect", model, "--json").out)
    first = next(e for e in body["hyperedges"] if e["name"] == "w1:0")
    assert first["size"] == 16
    # w1 makes 16 channels and w2 reads them: 16*3*9*36 + 16*16*9*16 of all MACs, plus none.
    flops = {"w1": 16 * 3 * 9 * 36, "w2": 16 * 16 * 9 * 16, "w3": 160}
    total = sum(flops.values())
    assert body["costs"]["flops"] == total
    assert first["share"]["flops"] == pytest.approx((flops["w1"] + flops["w2"]) / total)
    assert body["frozen_share"]["params"] == pytest.approx(10 / body["costs"]["params"])
    assert {"value": "w2", "axis": 1, "multiplicity": 1, "weight": True} in first["members"]


def test_inspect_starts_with_the_coverage(model: Path, capsys: Capture) -> None:
    body = json.loads(prunec(capsys, "inspect", model, "--json").out)
    flops, params = body["coverage"]["flops"], body["coverage"]["params"]
    assert (flops["prunable_share"], flops["barriers"]) == (1, {})
    # One channel of each of the two hyperedges stays.
    least = 3 * 9 * 36 + 9 * 16 + 10
    assert flops["smallest_ratio"] == pytest.approx(least / flops["dense"])
    assert params["barriers"] == {"graph-output": pytest.approx(10 / params["dense"])}
    about = body["barriers"]["graph-output"]
    assert about["example"] == "w3:0"
    assert about["remedy"].startswith("nothing while the caller reads this shape")
    lines = prunec(capsys, "inspect", model).out.splitlines()
    assert lines[0].split() == ["cost", "dense", "prunable", "smallest"]
    assert lines[1].split()[-2:] == ["100.00%", f"{least / flops['dense']:.4f}"]
    assert lines[7].split()[:5] == ["kept", "by", "flops", "params", "bytes"]
    assert lines[8].split()[:2] == ["graph-output", "0.00%"]
    assert "w3:0" in lines[8]


def test_inspect_draws_the_bipartite_graph(model: Path, capsys: Capture) -> None:
    dot = prunec(capsys, "inspect", model, "--dot").out
    assert dot.startswith("graph ")
    assert '"w1:0" -- "axis w2:1";' in dot
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg"], input=dot.encode(), check=True, capture_output=True)
    root = ET.fromstring(prunec(capsys, "inspect", model, "--graphml").out)
    assert len(list(root.iter("{http://graphml.graphdrawing.org/xmlns}edge"))) == dot.count(" -- ")
    assert prunec(capsys, "inspect", model, "--dot", "--json").code == 2


def test_inspect_binds_shapes(model: Path, capsys: Capture) -> None:
    body = json.loads(prunec(capsys, "inspect", model, "--json", "--shape", "x:2,3,6,6").out)
    single = json.loads(prunec(capsys, "inspect", model, "--json").out)
    assert body["costs"]["flops"] == 2 * single["costs"]["flops"]


def test_explain_names_the_hyperedge_or_the_barrier(model: Path, capsys: Capture) -> None:
    assert "hyperedge w1:0" in prunec(capsys, "explain", model, "w2:1").out
    assert "can't be removed" in prunec(capsys, "explain", model, "w3:0").out
    body = json.loads(prunec(capsys, "explain", model, "w2:1", "--json").out)
    assert (body["value"], body["axis"]) == ("w2", 1)
    wrong = prunec(capsys, "explain", model, "w22:1")
    assert wrong.code == 2
    assert "did you mean 'w2'" in wrong.complaint()
    assert prunec(capsys, "explain", model, "w2").code == 2
    assert prunec(capsys, "explain", model, "w2:7").code == 2


def test_apply_reproduces_the_main_job_byte_by_byte(
    model: Path, pruned: Path, capsys: Capture
) -> None:
    again = model.parent / "again.onnx"
    done = prunec(capsys, "apply", model, model.parent / "net.plan.json", "-o", again)
    assert done.code == 0, done.err
    assert again.read_bytes() == pruned.read_bytes()
    assert "gated == pruned" in done.out
    assert not (model.parent / "again.plan.json").exists()


def test_plan_writes_only_the_plan(model: Path, capsys: Capture) -> None:
    printed = prunec(capsys, "plan", model, "--budget", "flops=0.5", "-o", "-")
    assert printed.code == 0
    assert list(model.parent.iterdir()) == [model]
    assert prunec(capsys, "plan", model, "--budget", "flops=0.5").code == 0
    assert (model.parent / "net.plan.json").read_text() == printed.out
    body = json.loads(prunec(capsys, "plan", model, "--budget", "flops=0.5", "--json").out)
    assert body["plan"].endswith("net.plan.json")


def test_verify_passes_on_the_pair_and_fails_on_another(
    model: Path, pruned: Path, capsys: Capture
) -> None:
    plan = model.parent / "net.plan.json"
    good = prunec(capsys, "verify", model, pruned, plan)
    assert good.code == 0, good.err
    assert "verified" in good.out
    bad = prunec(capsys, "verify", model, model, plan)
    assert bad.code == 4
    assert "FAILED" in bad.out
    quiet = prunec(capsys, "verify", model, model, plan, "-q")
    assert quiet.code == 4
    assert "verification failed" in quiet.complaint()
    body = json.loads(prunec(capsys, "verify", model, model, plan, "--json").out)
    assert body["passed"] is False


def test_diff_of_plans_and_of_models(model: Path, pruned: Path, capsys: Capture) -> None:
    plan = model.parent / "net.plan.json"
    other = model.parent / "other.json"
    assert prunec(capsys, "plan", model, "--budget", "flops=0.3", "-o", other).code == 0
    plans = json.loads(prunec(capsys, "diff", plan, other, "--json").out)
    assert plans["kind"] == "plans"
    assert plans["same_model"]
    assert plans["hyperedges"]
    assert "no difference" in prunec(capsys, "diff", plan, plan).out
    models = json.loads(prunec(capsys, "diff", model, pruned, "--json").out)
    assert models["kind"] == "models"
    name, shapes = next(iter(models["tensors"].items()))
    assert shapes["a"] > shapes["b"]
    assert name in prunec(capsys, "diff", model, pruned).out
    assert "not one of each" in prunec(capsys, "diff", model, plan).complaint()


def test_bench_says_what_ran_and_whether_it_is_faster(model: Path, capsys: Capture) -> None:
    words = ("bench", model, model, "--rounds", 5, "--seconds", 0.1)
    done = prunec(capsys, *words)
    assert done.code in (0, 5)
    assert "ran on cpu, 1 thread" in done.out
    body = json.loads(prunec(capsys, *words, "--json").out)
    assert len(body["models"]) == 2
    assert prunec(capsys, "bench", model, "--rounds", 5, "--seconds", 0.1).code == 0
    done = prunec(capsys, "bench", model, "--rounds", 5, "--seconds", 0.1, "--memory")
    assert "allocated" in done.out


def test_bench_exit_codes(model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from prunec.runtime import bench

    for low, code in ((1.2, 0), (0.9, 5)):

        def fake(paths: list[str], low: float = low, **_: object) -> bench.BenchResult:
            timing = bench.Timing(paths[0], 1, 1.0, 1.0, (1.0,), 1, {})
            ratio = bench.Ratio(paths[1], 1.3, low, 1.5)
            return bench.BenchResult("cpu", "", 1, 5, (timing,), (ratio,))

        monkeypatch.setattr(bench, "bench", fake)
        assert prunec(capsys, "bench", model, model).code == code


def test_doctor_reports(capsys: Capture) -> None:
    done = prunec(capsys, "doctor", "--json")
    body = json.loads(done.out)
    assert done.code == (0 if body["ok"] else 1)
    assert {"python", "numpy"} <= {f["topic"] for f in body["findings"]}

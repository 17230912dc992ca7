"""The main job from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny import files, prunec, save, two_convs, unknown_domain

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(two_convs(), tmp_path / "net.onnx")


def test_outputs_lie_beside_the_input_and_meet_the_budget(model: Path, capsys: Capture) -> None:
    before = model.read_bytes()
    done = prunec(capsys, model, "--budget", "flops=0.6")
    assert done.code == 0, done.err
    assert done.err == ""
    assert set(files(model.parent)) == {"net.onnx", "net.pruned.onnx", "net.plan.json"}
    assert model.read_bytes() == before
    plan = json.loads((model.parent / "net.plan.json").read_text())
    assert plan["costs"]["flops"]["pruned"] <= 0.6 * plan["costs"]["flops"]["dense"]
    onnx.checker.check_model(str(model.parent / "net.pruned.onnx"))


def test_the_summary_in_a_pipe_is_plain_and_complete(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, model, "--budget", "flops=0.6")
    assert done.out.isascii()
    assert "\x1b" not in done.out
    for word in (
        "flops", "params", "bytes", "budget", "used", "objective", "bound", "gap", "solver",
        "removed", "hyperedges", "gated == pruned", "checker", "file", "net.pruned.onnx",
        "net.plan.json",
    ):  # fmt: skip
        assert word in done.out, word
    assert not any(line.endswith(" ") for line in done.out.splitlines())


@pytest.mark.parametrize("solver", ["auto", "greedy", "milp"])
def test_the_answer_says_who_proved_it_and_what_more_would_buy(
    model: Path, capsys: Capture, solver: str
) -> None:
    words = ("plan", model, "--budget", "flops=0.6", "--solver", solver)
    shown = prunec(capsys, *words).out
    body = json.loads(prunec(capsys, *words, "--json").out)
    assert body["proved_by"]
    assert f"(proven by {body['proved_by']})" in shown
    assert body["prices"]["flops"] > 0
    share = body["prices"]["flops"] / body["objective"]
    assert "one more percent of flops would buy" in shown
    assert f"of the objective, {share:.2%}" in shown


def test_more_than_what_is_needed_buys_nothing(model: Path, capsys: Capture) -> None:
    body = json.loads(prunec(capsys, "plan", model, "--budget", "flops=1.0", "--json").out)
    assert (body["gap"], body["proved_by"], body["prices"]) == (0.0, "dense", {"flops": 0.0})


def test_json_is_one_document(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, model, "--budget", "flops=0.6,params=0.9", "--json")
    body = json.loads(done.out)
    assert {
        "model", "output", "plan", "costs", "budget", "objective", "bound", "gap", "solver",
        "proved_by", "prices",
        "diagnostics", "verification", "accuracy", "recovery", "bench", "file_bytes", "hyperedges",
        "hyperedges_narrowed", "hyperedges_removed", "channels", "channels_removed", "grouped",
        "quantised", "density",
    } == set(body)  # fmt: skip
    assert body["output"] == str(model.parent / "net.pruned.onnx")
    assert set(body["budget"]) == {"flops", "params"}
    assert body["budget"]["flops"]["used"] <= 1
    assert body["verification"]["passed"]
    assert body["file_bytes"]["pruned"] < body["file_bytes"]["dense"]
    assert done.err == ""


def test_quiet_prints_nothing(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, model, "--budget", "flops=0.6", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (model.parent / "net.pruned.onnx").exists()


def test_output_and_plan_go_where_they_are_told(model: Path, capsys: Capture) -> None:
    folder = model.parent / "there"
    folder.mkdir()
    assert prunec(capsys, model, "--budget", "macs=0.6", "-o", folder / "a.onnx").code == 0
    assert set(files(folder)) == {"a.onnx", "a.plan.json"}
    done = prunec(
        capsys, model, "--budget", "macs=0.6", "-o", folder / "b.onnx", "--plan-out", folder / "p"
    )
    assert done.code == 0
    assert {"b.onnx", "p"} <= set(files(folder))
    assert (folder / "b.onnx").read_bytes() == (folder / "a.onnx").read_bytes()
    assert (folder / "p").read_bytes() == (folder / "a.plan.json").read_bytes()


def test_an_output_may_have_any_name(model: Path, capsys: Capture) -> None:
    """The plan's name starts with the model's: neither is taken for data of the other."""
    folder = model.parent / "there"
    folder.mkdir()
    assert prunec(capsys, model, "--budget", "flops=0.6", "-o", folder / "small[1]").code == 0
    assert set(files(folder)) == {"small[1]", "small[1].plan.json"}


def test_old_outputs_are_replaced(model: Path, capsys: Capture) -> None:
    target = model.parent / "net.pruned.onnx"
    target.write_text("old")
    assert prunec(capsys, model, "--budget", "flops=0.6").code == 0
    assert target.read_bytes() != b"old"


def test_no_verify_says_so(model: Path, capsys: Capture) -> None:
    done = prunec(capsys, model, "--budget", "flops=0.6", "--no-verify")
    assert "not verified" in done.out
    assert "gated" not in done.out


def test_bench_and_accuracy_appear_in_the_summary(
    model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunec.runtime.bench.WARM_UP_S", 0.01)
    monkeypatch.setattr("prunec.runtime.bench.SAMPLE_S", 0.0005)
    data = model.parent / "data.npz"
    rng = np.random.default_rng(0)
    np.savez(
        data,
        images=rng.standard_normal((8, 3, 6, 6)).astype(np.float32),
        labels=rng.integers(0, 10, 8),
    )
    words = (model, "--budget", "flops=0.6", "--data", data, "--bench", "--samples", 6)
    done = prunec(capsys, *words)
    assert done.code == 0, done.err
    for word in ("top-1 of 6", "top-5 of 6", "latency (cpu, 1 thread)", "x as fast"):
        assert word in done.out, word
    body = json.loads(prunec(capsys, *words, "--json").out)
    assert body["accuracy"]["dense"]["samples"] == 6
    # No name of a temporary file.
    assert [m["path"] for m in body["bench"]["models"]] == [body["model"], body["output"]]
    assert [r["path"] for r in body["bench"]["ratios"]] == [body["output"]]


def test_keep_only_align_and_min_keep_reach_the_plan(model: Path, capsys: Capture) -> None:
    def kept(*words: object) -> dict[str, int]:
        plan = model.parent / "p.json"
        assert prunec(capsys, "plan", model, "--budget", "params=0.7", "-o", plan, *words).code == 0
        return {k: v["count"] for k, v in json.loads(plan.read_text())["hyperedges"].items()}

    assert kept("--keep", "w1")["w1:0"] == 16
    assert kept("--only", "w1")["w2:0"] == 16
    assert all(n % 4 == 0 for n in kept("--align", 4).values())
    assert all(n >= 10 for n in kept("--min-keep", 10, "--align", 1).values())


def test_diagnostics_are_shown_and_strict_makes_them_errors(
    tmp_path: Path, capsys: Capture
) -> None:
    model = save(unknown_domain(), tmp_path / "odd.onnx")
    done = prunec(capsys, "inspect", model)
    assert done.code == 0, done.err
    assert "riddle" in done.out
    strict = prunec(capsys, model, "--budget", "flops=0.8", "--strict")
    assert strict.code in (1, 2)
    assert "riddle" in strict.complaint()


def test_same_inputs_give_the_same_bytes(model: Path, capsys: Capture) -> None:
    prunec(capsys, model, "--budget", "flops=0.5")
    first = files(model.parent)
    prunec(capsys, model, "--budget", "flops=0.5")
    assert files(model.parent) == first

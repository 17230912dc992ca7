"""``prunec train``: gates and masks on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import array, files, prunec, save, two_convs

from prunec.compiler.plan import Plan
from prunec.passes.trained import TRAINED
from prunec.tools.options import COMPONENTS

pytest.importorskip("accelerate")
pytest.importorskip("onnxruntime")

Capture = pytest.CaptureFixture[str]
SHORT = ("--budget", "flops=0.6", "--steps", 8, "--batch", 4, "--device", "cpu", "--threads", 1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(two_convs(), tmp_path / "net.onnx")


@pytest.fixture
def data(tmp_path: Path, model: Path) -> Path:
    import onnx

    value = onnx.load(model).graph.input[0]
    shape = [d.dim_value or 8 for d in value.type.tensor_type.shape.dim]
    folder = tmp_path / "data"
    folder.mkdir()
    np.savez(folder / "images.npz", **{value.name: array(16, *shape[1:])})
    return folder / "images.npz"


@pytest.mark.parametrize("by", ["gate", "masks{schedule=stepwise,repetition=2}"])
def test_it_writes_the_pruned_the_trained_and_the_plan(
    model: Path, data: Path, tmp_path: Path, capsys: Capture, by: str
) -> None:
    done = prunec(capsys, "train", model, "--data", data, *SHORT, "--by", by)
    assert done.code == 0, done.err
    assert done.out.startswith("reached  flops ")
    names = {"net.onnx", "net.pruned.onnx", "net.trained.onnx", "net.plan.json"}
    assert set(files(tmp_path)) == {*names, "data", "data/images.npz"}
    plan = Plan.from_json((tmp_path / "net.plan.json").read_text())
    assert plan.costs["flops"][1] <= plan.budget["flops"]
    # The plan is of the trained model: applied to it, it gives the pruned one.
    parts = (
        tmp_path / "net.trained.onnx",
        tmp_path / "net.pruned.onnx",
        tmp_path / "net.plan.json",
    )
    assert prunec(capsys, "verify", *parts).code == 0


def test_json_says_what_was_reached(model: Path, data: Path, capsys: Capture) -> None:
    done = prunec(capsys, "train", model, "--data", data, *SHORT, "--json", "--no-verify")
    assert done.code == 0, done.err
    training = json.loads(done.out)["training"]
    assert training["gates"]["reached"]["flops"] <= 1
    assert training["gates"]["steps"] == 8


def test_gates_as_a_criterion_of_the_main_job(
    model: Path, data: Path, tmp_path: Path, capsys: Capture
) -> None:
    spec = "gate{steps=6,batch=4}"
    words = ("--budget", "flops=0.6", "--score", spec, "--data", data)
    for more in ((), ("--save-scores", tmp_path / "gates.json")):
        done = prunec(capsys, model, *words, *more)
        assert done.code == 0, done.err
        plan = json.loads((tmp_path / "net.plan.json").read_text())
        assert plan["options"]["gates"]["reached"]["flops"] <= 1


def test_it_is_quantised_while_channels_close(
    model: Path, data: Path, tmp_path: Path, capsys: Capture
) -> None:
    """The scales that are written are those of the training, not of a calibration."""
    (tmp_path / "prunec.toml").write_text('quantize = "w4a4"\nquantize_ends = 0\n')
    words = ("--config", tmp_path / "prunec.toml", "--quantize-samples", 8, "--json")
    done = prunec(capsys, "train", model, "--data", data, *SHORT, *words)
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert body["quantize"]["recipe"] == "w4a4"
    assert body["quantize"]["ends"] is None
    plan = Plan.from_json((tmp_path / "net.plan.json").read_text())
    assert set(plan.bits.values()) == {4}
    assert plan.costs["flops"][1] <= plan.budget["flops"]
    parts = (tmp_path / f"net.{kind}" for kind in ("trained.onnx", "pruned.onnx", "plan.json"))
    assert prunec(capsys, "verify", *parts).code == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--by", "gates"), "did you mean 'gate'"),
        (("--by", "gate{steps=3}"), "steps is an option of the training here"),
        (("--by", "masks{schedule=never}"), "unknown schedule"),
        (("--save-trained", "nowhere/net.onnx"), "does not exist"),
        (("--precision", "float16"), "float32 or bfloat16"),
        (("--quantize", "weights=int4{block=32}"), "blocks of weights don't go with"),
        (("--quantize", "auto"), "unknown recipe 'auto'"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_written(
    model: Path, data: Path, tmp_path: Path, capsys: Capture, words: tuple[str, ...], complaint: str
) -> None:
    before = files(tmp_path)
    done = prunec(capsys, "train", model, "--data", data, *SHORT, *words)
    assert complaint in done.complaint()
    assert done.code != 0
    assert files(tmp_path) == before


def test_budget_and_data_are_required(model: Path, data: Path, capsys: Capture) -> None:
    assert "--budget is required" in prunec(capsys, "train", model, "--data", data).complaint()
    assert "--data is required" in prunec(capsys, "train", model, *SHORT).complaint()


def test_component_names_are_those_of_the_table(capsys: Capture) -> None:
    assert COMPONENTS["trained"] == tuple(TRAINED)
    shown = prunec(capsys, "--help-components").out
    assert all(f"  {name}{{" in shown for name in TRAINED)

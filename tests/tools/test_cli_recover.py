"""``--recover`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny import array, files, prunec, save, two_convs

from prunec.passes.recovery import RECOVERIES

pytest.importorskip("onnxruntime")
Capture = pytest.CaptureFixture[str]
BUDGET = ("--budget", "flops=0.6")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(two_convs(), tmp_path / "net.onnx")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "calib.npy"
    np.save(path, array(40, 3, 6, 6))
    return path


def components(model: Path) -> dict[str, str]:
    found = json.loads((model.parent / "net.plan.json").read_text())["components"]
    assert isinstance(found, dict)
    return found


def weights(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_names_are_shown(capsys: Capture) -> None:
    shown = prunec(capsys, "--help-components").out
    for name in RECOVERIES:
        assert f"  {name}{{" in shown or f"  {name}:" in shown


def test_data_alone_recovers_and_none_does_not(model: Path, data: Path, capsys: Capture) -> None:
    done = prunec(capsys, model, *BUDGET, "--data", data)
    assert done.code == 0, done.err
    assert components(model)["recovery"] == "least-squares"
    assert "recovered layer" in done.out and "recovery" in done.out
    won = weights(model.parent / "net.pruned.onnx")
    done = prunec(capsys, model, *BUDGET, "--data", data, "--recover", "none")
    assert done.code == 0, done.err
    assert "recovery" not in components(model)
    sliced = weights(model.parent / "net.pruned.onnx")
    assert won.keys() == sliced.keys()
    assert any((won[name] != sliced[name]).any() for name in won)


def test_the_report_has_every_layer(model: Path, data: Path, capsys: Capture) -> None:
    done = prunec(capsys, model, *BUDGET, "--data", data, "--recover", "bias", "--json")
    body = json.loads(done.out)["recovery"]
    assert body["samples"] == 40
    assert body["held_out"] == 8
    assert body["layers"]
    assert all(layer["after"] <= layer["before"] for layer in body["layers"])
    assert components(model)["recovery"] == "bias"


def test_apply_recovers_to_the_same_bytes(model: Path, data: Path, capsys: Capture) -> None:
    assert prunec(capsys, model, *BUDGET, "--data", data).code == 0
    first = (model.parent / "net.pruned.onnx").read_bytes()
    plan, again = model.parent / "net.plan.json", model.parent / "again.onnx"
    done = prunec(
        capsys, "apply", model, plan, "--data", data, "--recover", "least-squares", "-o", again
    )
    assert done.code == 0, done.err
    assert again.read_bytes() == first


def test_a_recovered_file_verifies(model: Path, data: Path, capsys: Capture) -> None:
    assert prunec(capsys, model, *BUDGET, "--data", data).code == 0
    pruned, plan = model.parent / "net.pruned.onnx", model.parent / "net.plan.json"
    done = prunec(capsys, "verify", model, pruned, plan)
    assert done.code == 0, done.out
    assert "stored tensors have other numbers" in done.out
    assert prunec(capsys, "verify", model, pruned, plan, "--no-retrained").code == 4


def test_a_plan_is_carried_out_as_it_was_before(model: Path, data: Path, capsys: Capture) -> None:
    """With data by the recovery that it names; without, that is said."""
    spec = "least-squares{clipped=0,positions=3}"
    assert prunec(capsys, model, *BUDGET, "--data", data, "--recover", spec).code == 0
    first = (model.parent / "net.pruned.onnx").read_bytes()
    plan, again = model.parent / "net.plan.json", model.parent / "again.onnx"
    done = prunec(capsys, "apply", model, plan, "--data", data, "-o", again)
    assert done.code == 0, done.err
    assert again.read_bytes() == first
    done = prunec(capsys, "apply", model, plan, "-o", again)
    assert done.code == 0, done.err
    assert "info[not-recovered] the plan was carried out with recovery least-squares" in done.out
    assert "\nrecovery " not in done.out
    assert again.read_bytes() != first


def test_a_file_that_was_changed_since_is_told_apart(
    model: Path, data: Path, capsys: Capture
) -> None:
    assert prunec(capsys, model, *BUDGET).code == 0
    plan, out = model.parent / "net.plan.json", model.parent / "net.pruned.onnx"
    done = prunec(capsys, "apply", model, plan, "--data", data, "-o", out, "--recover", "bias")
    assert done.code == 0, done.err
    done = prunec(capsys, "verify", model, out, plan)
    assert done.code == 4
    assert "--retrained proves that" in done.out
    assert prunec(capsys, "verify", model, out, plan, "--retrained").code == 0
    proto = onnx.load(out)
    next(node for node in proto.graph.node if node.op_type == "Relu").op_type = "Sigmoid"
    onnx.save(proto, out)
    done = prunec(capsys, "verify", model, out, plan)
    assert done.code == 4
    assert "--retrained proves that" not in done.out


def test_data_on_which_the_model_overflows(model: Path, capsys: Capture) -> None:
    """Recovery that nobody asked for does not end the job."""
    path = model.parent / "huge.npy"
    np.save(path, np.full((20, 3, 6, 6), 3e38, np.float32))
    done = prunec(capsys, model, *BUDGET, "--data", path)
    assert done.code == 0, done.err
    assert "info[not-recovered]" in done.out
    done = prunec(capsys, model, *BUDGET, "--data", path, "--recover", "bias")
    assert done.code == 1
    assert "is not finite on batch 0" in done.err


def test_another_topology_does_not_verify(model: Path, data: Path, capsys: Capture) -> None:
    assert prunec(capsys, model, *BUDGET, "--data", data).code == 0
    pruned, plan = model.parent / "net.pruned.onnx", model.parent / "net.plan.json"
    proto = onnx.load(pruned)
    relu = next(node for node in proto.graph.node if node.op_type == "Relu")
    relu.op_type = "Sigmoid"
    onnx.save(proto, pruned)
    done = prunec(capsys, "verify", model, pruned, plan)
    assert done.code == 4
    assert "is not what slicing gives" in done.out


def test_labels_of_the_calibration_data_flatter(model: Path, capsys: Capture) -> None:
    path = model.parent / "labelled.npz"
    np.savez(path, x=array(40, 3, 6, 6), labels=np.zeros(40, np.int64))
    done = prunec(capsys, model, *BUDGET, "--data", path, "--json")
    codes = [d["code"] for d in json.loads(done.out)["diagnostics"]]
    assert ("fitted-samples" in codes) == (json.loads(done.out)["accuracy"] is not None)


def test_too_few_samples(model: Path, capsys: Capture) -> None:
    path = model.parent / "one.npy"
    np.save(path, array(1, 3, 6, 6))
    done = prunec(capsys, model, *BUDGET, "--data", path)
    assert done.code == 0, done.err
    assert "not-recovered" in done.out
    before = files(model.parent)
    done = prunec(capsys, model, *BUDGET, "--data", path, "--recover", "bias", "-o", "x.onnx")
    assert done.code == 1
    assert "at least two batches" in done.err
    assert files(model.parent) == before


def test_what_cannot_be_done_is_refused(model: Path, data: Path, capsys: Capture) -> None:
    done = prunec(capsys, model, *BUDGET, "--recover", "bias")
    assert done.code == 2
    assert "needs data" in done.err
    done = prunec(capsys, model, *BUDGET, "--data", data, "--recover", "bais")
    assert done.code == 2
    assert "did you mean 'bias'" in done.err

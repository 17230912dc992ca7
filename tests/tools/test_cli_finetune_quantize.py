"""``prunec finetune --quantize``: options reach the run, the written file is quantised."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny import prunec, save
from training_nets import arrays, net

import prunec as face
from prunec.runtime.training.settings import Recipe, Sgd, TrainSettings

Capture = pytest.CaptureFixture[str]
WORDS = ("finetune", "net.onnx", "--teacher", "dense.onnx", "--data", "d.npz", "--device", "cpu",
         "--threads", 1, "--batch", 16, "--no-plot", "--epochs", 1)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("accelerate")
    monkeypatch.chdir(tmp_path)
    save(net(4, seed=1), tmp_path / "net.onnx")
    save(net(8), tmp_path / "dense.onnx")
    arrays(tmp_path / "d.npz", 96)
    return tmp_path


def test_the_written_file_is_quantised(folder: Path, capsys: Capture) -> None:
    done = prunec(capsys, *WORDS, "--quantize", "w4a4{ranges=mse}", "-o", "out.onnx")
    assert done.code == 0, done.err
    assert "w4a4{ranges=mse}: 2 weights and 3 activations are integers" in done.out
    model = onnx.load(folder / "out.onnx")
    onnx.checker.check_model(model, full_check=True)
    ops = Counter(node.op_type for node in model.graph.node)
    assert ops["QuantizeLinear"] == 4  # three grids, one of them behind a Flatten again
    assert not ops["BatchNormalization"]
    assert prunec(capsys, "eval", "out.onnx", "--data", "d.npz").code == 0


def test_every_option_reaches_the_run(folder: Path, capsys: Capture) -> None:
    done = prunec(
        capsys, *WORDS, "--quantize", "w8a8", "--quantize-exclude", "^fc$", "--quantize-scales",
        "running{weight=3}", "--quantize-start", "published{weights=0.2}", "--quantize-ends", 0,
        "--quantize-sums", 6, "--quantize-samples", 40, "--json", "-o", "out.onnx",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(done.out)["quantize"] == {
        "recipe": "w8a8", "exclude": ["^fc$"], "scales": "running{weight=3}",
        "start": "published{weights=0.2}", "ends": None, "sums": 6, "samples": 40,
    }  # fmt: skip
    stored = {tensor.name for tensor in onnx.load(folder / "out.onnx").graph.initializer}
    assert "fc" in stored
    assert "w.codes" in stored


def test_options_come_from_a_file(folder: Path, capsys: Capture) -> None:
    """Files in it lie beside it, recipes are none; what other commands have is ignored."""
    (folder / "settings").mkdir()
    (folder / "settings" / "prunec.toml").write_text(
        'budget = "flops=0.5"\nteacher = "../dense.onnx"\ndata = "../d.npz"\nepochs = 1\n'
        'batch = 16\ndevice = "cpu"\nthreads = 1\nplot = false\nseed = 7\n'
        'quantize = "w8a8"\nquantize_exclude = ["^fc$"]\nquantize_samples = 40\n'
    )
    words = ("finetune", "net.onnx", "--config", "settings/prunec.toml", "-o", "out.onnx")
    done = prunec(capsys, *words, "--quantize-samples", 48, "--json")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert (body["training"]["batch"], body["training"]["seed"]) == (16, 7)
    assert body["quantize"]["recipe"] == "w8a8"
    assert body["quantize"]["exclude"] == ["^fc$"]
    assert body["quantize"]["samples"] == 48
    (folder / "settings" / "prunec.toml").write_text('epoch = 1\ndata = "../d.npz"\n')
    assert "did you mean 'epochs'?" in prunec(capsys, *words).complaint()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--quantize", "w4b4"), 2, "unknown recipe 'w4b4'"),
        (("--quantize", "w4a4", "--quantize-scales", "learnt"), 2, "did you mean 'learned'?"),
        (("--quantize", "w4a4", "--quantize-start", "published{weights=-1}"), 2, "negative"),
        (("--quantize", "w8a8{weights=clustered}",), 2, "give --quantize-scales running"),
        (("--quantize", "w4a4", "--quantize-exclude", "."), 2, "no layer that the recipe"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    folder: Path, capsys: Capture, words: tuple[str, ...], code: int, message: str
) -> None:
    done = prunec(capsys, *WORDS, *words, "-o", "out.onnx")
    assert done.code == code
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (folder / "out.onnx").exists()


def test_from_python(folder: Path) -> None:
    how = TrainSettings(epochs=1, batch=16, optimizer=Sgd(), device="cpu", threads=1)
    found = face.finetune(
        "net.onnx", "d.npz", "dense.onnx", Recipe(), how, quantize="w4a4", output="out.onnx"
    )
    assert found.history.score is not None
    names = {node.op_type for node in found.model.graph}
    assert "QuantizeLinear" in names
    body = onnx.load(folder / "out.onnx")
    codes = next(t for t in body.graph.initializer if t.name == "w.codes")
    assert np.abs(onnx.numpy_helper.to_array(codes).astype(int)).max() <= 128

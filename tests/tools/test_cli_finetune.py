"""``prunec finetune``: options, outputs, and one line for everything that is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny import files, prunec, save, two_convs
from training_nets import arrays, net

Capture = pytest.CaptureFixture[str]
CPU = ("--device", "cpu", "--threads", "1", "--batch", "16", "--no-plot")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("accelerate")
    monkeypatch.chdir(tmp_path)
    save(net(4, seed=1), tmp_path / "net.onnx")
    save(net(8), tmp_path / "dense.onnx")
    arrays(tmp_path / "d.npz", 96)
    return tmp_path


def test_the_result_and_its_history_are_written(folder: Path, capsys: Capture) -> None:
    done = prunec(
        capsys, "finetune", "net.onnx", "--teacher", "dense.onnx", "--data", "d.npz", *CPU
    )
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].split() == [
        "epoch", "steps", "loss", "held-out", "loss", "top-1",
    ]  # fmt: skip
    assert done.out.splitlines()[-1] == "model  net.finetuned.onnx"
    assert [line.split()[1] for line in done.err.splitlines()] == ["0", "1", "2", "3"]
    history = json.loads((folder / "net.finetuned.history.json").read_text())
    assert [e["number"] for e in history["epochs"]] == [0, 1, 2, 3]
    assert history["curve"][-1][0] == history["steps"] == 15
    assert sorted(files(folder)) == [
        "d.npz", "dense.onnx", "net.finetuned.history.json", "net.finetuned.onnx", "net.onnx",
    ]  # fmt: skip


def test_every_option_reaches_the_run(folder: Path, capsys: Capture) -> None:
    done = prunec(
        capsys, "finetune", "net.onnx", "--teacher", "dense.onnx", "--data", "d.npz", "--json",
        "--samples", 64, "--validation", "25%", "--augment", "flip,crop{padding=1}",
        "--memory", "1GB", "--shuffle-buffer", 10, "--workers", 0, "--labels", "none",
        "--alpha", 0.5, "--temperature", 3, "--output-loss", "mse", "--smoothing", 0.1,
        "--features", "^p$", "--feature-weight", 0, "--epochs", 1, "--steps", 3,
        "--accumulate", 2, "--optimizer", "sgd{momentum=0.5}", "--learning-rate", 0.01,
        "--lr-schedule", "linear", "--warmup", 0, "--clip", 1, "--ema", 0.9, "--freeze-norms",
        "--precision", "bfloat16", "--seed", 3, "--checkpoint", "state",
        "--checkpoint-steps", 2, *CPU, "-o", "out.onnx", "-q",
    )  # fmt: skip
    assert done.code == 2  # values of other channels cannot be matched without a plan
    assert "--features '^p$': the values that match have other shapes; give --plan" in done.err
    words = [
        "finetune", "net.onnx", "--teacher", "net.onnx", "--data", "d.npz", "--json", "-q",
        "--samples", 64, "--validation", "25%", "--augment", "flip,crop{padding=1}",
        "--memory", "1GB", "--cache", "1MB", "--shuffle-buffer", 10, "--workers", 0,
        "--labels", "none",
        "--alpha", 0.5, "--temperature", 3, "--output-loss", "mse", "--smoothing", 0.1,
        "--features", "^p$", "--feature-weight", 0.5, "--epochs", 1, "--steps", 3,
        "--accumulate", 2, "--optimizer", "sgd{momentum=0.5}", "--learning-rate", 0.01,
        "--lr-schedule", "linear", "--warmup", 0, "--clip", 1, "--ema", 0.9, "--freeze-norms",
        "--precision", "bfloat16", "--seed", 3, "--checkpoint", "state",
        "--checkpoint-steps", 2, *CPU, "-o", "out.onnx",
    ]  # fmt: skip
    body = json.loads(prunec(capsys, *words).out)
    recipe, training = body["recipe"], body["training"]
    assert recipe == {
        "labels": "none", "alpha": 0.5, "temperature": 3.0, "output_loss": "mse",
        "smoothing": 0.1, "features": ["^p$"], "feature_weight": 0.5,
        "augment": "flip,crop{padding=1}", "validation": 0.25, "cache": 10**6,
        "memory": 10**9, "buffer": 10, "workers": 0,
    }  # fmt: skip
    assert training == {
        "epochs": 1, "steps": 3, "batch": 16, "accumulate": 2, "optimizer": "sgd{momentum=0.5}",
        "learning_rate": 0.01, "schedule": "linear", "warmup": 0.0, "clip": 1.0, "ema": 0.9,
        "freeze_norms": True, "precision": "bfloat16", "device": "cpu", "threads": 1, "seed": 3,
        "checkpoint": "state", "checkpoint_steps": 2,
    }  # fmt: skip
    assert body["steps"] == 3
    assert body["labels"] is False
    assert (folder / "state" / "training.pt").exists()


def test_the_loss_is_drawn(folder: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    words = [w for w in CPU if w != "--no-plot"]
    done = prunec(capsys, "finetune", "net.onnx", "--data", "d.npz", "--epochs", 1, *words)
    assert done.code == 0, done.err
    assert (folder / "net.finetuned.history.png").read_bytes().startswith(b"\x89PNG")


def test_a_killed_process_goes_on(folder: Path, capsys: Capture) -> None:
    words = ["finetune", "net.onnx", "--teacher", "dense.onnx", "--data", "d.npz", "--epochs", "20"]
    how = [*CPU, "--checkpoint", "state", "--checkpoint-steps", "1", "-q"]
    process = subprocess.Popen([sys.executable, "-m", "prunec", *words, *how, "-o", "out.onnx"])
    state = folder / "state" / "training.pt"
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "out.onnx").exists()
    resumed = json.loads(prunec(capsys, *words, *how, "-o", "out.onnx", "--json").out)
    assert 0 < resumed["resumed_at_step"] < resumed["steps"] == 100
    assert prunec(capsys, *words, *CPU, "-q", "-o", "whole.onnx").code == 0
    assert (folder / "out.onnx").read_bytes() == (folder / "whole.onnx").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "--data is required"),
        (("--data", "none.npz"), 1, "none.npz: no such file"),
        (("--data", "d.npz", "--labels", "none"), 2, "--labels none needs a --teacher"),
        (("--data", "d.npz", "--features", "r"), 2, "--features needs a --teacher"),
        (("--data", "d.npz", "--optimizer", "adam"), 2, "did you mean 'adamw'?"),
        (("--data", "d.npz", "--augment", "flop"), 2, "did you mean 'flip'?"),
        (("--data", "d.npz", "--memory", "much"), 2, "must be a size such as 512MB"),
        (("--data", "d.npz", "--ema", "1"), 2, "must be below 1"),
        (("--data", "d.npz", "--precision", "float16"), 2, "float16 needs a GPU"),
        (("--data", "d.npz", "--teacher", "dense.onnx", "-o", "dense.onnx"), 1, "the teacher"),
        (("--data", "d.npz", "-o", "net.onnx"), 1, "would overwrite the input"),
        (("--data", "d.npz", "--teacher", "two.onnx"), 1, "input 'x' of the teacher is"),
        (("--data", "unlabelled.npz"), 1, "without --teacher training needs labels"),
        (("--data", "wrong.npz"), 1, "labels lie in [7, 7], the model has 4 classes"),
        (("--data", "empty.npz"), 1, "holds no sample"),
        (("--data", "nan.npz"), 1, "holds NaN"),
        (("--data", "d.npz", "--teacher", "dense.onnx", "--plan", "none.json"), 1, "No such file"),
    ],
)
def test_what_is_wrong_is_one_line(
    folder: Path, capsys: Capture, words: tuple[str, ...], code: int, message: str
) -> None:
    x = np.zeros((32, 3, 4, 4), np.float32)
    save(two_convs(), folder / "two.onnx")
    np.savez("unlabelled.npz", x=x)
    np.savez("wrong.npz", x=x, labels=np.full(32, 7))
    np.savez("empty.npz", x=x[:0])
    np.savez("nan.npz", x=x * np.nan, labels=np.zeros(32, int))
    before = files(folder)
    done = prunec(capsys, "finetune", "net.onnx", *words, *CPU)
    assert message in done.complaint()
    assert done.code == code
    assert files(folder) == before


def test_a_diverged_run_says_so_and_writes_nothing(folder: Path, capsys: Capture) -> None:
    words = ("--learning-rate", "1e30", "--clip", "0", "--warmup", "0", "--validation", "0")
    done = prunec(
        capsys, "finetune", "net.onnx", "--data", "d.npz", "--optimizer", "sgd", *words, *CPU, "-q"
    )
    assert done.code == 1
    assert "training diverged: the loss is not a number in epoch 1" in done.complaint()
    assert not (folder / "net.finetuned.onnx").exists()

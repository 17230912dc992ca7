"""The training script of tools/bench on made-up images: two classes that a mean tells apart."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import prunec

torch = pytest.importorskip("torch")
import train_cifar  # noqa: E402 - needs torch
from cifar_nets import NETS  # noqa: E402

LOAD = """
import numpy as np


def load(split):
    draw = np.random.default_rng(len(split))
    labels = draw.integers(0, 2, 384 if split == "train" else 500)
    images = draw.integers(0, 100, (len(labels), 3, 32, 32)) + 150 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


def preprocess(images):
    return images.astype(np.float32) / 128 - 1
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(train_cifar, "REPOSITORY", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "load.py").write_text(LOAD)
    return tmp_path / "data"


def trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> str:
    monkeypatch.setattr(sys, "argv", ["train_cifar.py", *map(str, words)])
    assert train_cifar.main() == 0
    return capsys.readouterr().out


def test_it_learns_writes_a_model_and_goes_on_from_it(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = data.parent / "net.onnx"
    words = ("mobilenet", "--data", data, "--epochs", 4, "--out", out)
    said = trained(monkeypatch, capsys, *words)
    assert "epoch 4" in said
    model = prunec.load(out)
    assert "BatchNormalization" in {node.op_type for node in model.graph}
    assert model.graph.inputs[0].shape[0] == "batch"
    said = trained(monkeypatch, capsys, *words, "--start", out, "--seconds", 60)
    assert float(said.split()[-2]) > 90


def test_without_images_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "SKIPPED" in trained(monkeypatch, capsys, "vit", "--data", tmp_path)


@pytest.mark.parametrize("name", sorted(NETS))
def test_each_network_can_be_pruned_to_half(name: str) -> None:
    torch.manual_seed(0)
    model = prunec.load(NETS[name]().eval(), torch.zeros(1, 3, 32, 32))
    result = prunec.prune(model, "flops=0.5", solver="greedy", verify=False)
    macs, pruned = result.report.costs["flops"]
    assert 5e6 < macs < 45e6
    assert pruned <= macs / 2


def test_crops_come_from_padded_images_at_full_size() -> None:
    images = np.ones((64, 3, 32, 32), np.uint8)
    draw = np.random.default_rng(0)
    full, small = (train_cifar.augmented(images, size, draw) for size in (32, 24))
    assert (full.shape, small.shape) == ((64, 3, 32, 32), (64, 3, 24, 24))
    assert full.min() == 0
    assert small.min() == 1

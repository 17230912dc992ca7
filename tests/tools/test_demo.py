"""The demo: the main job on the embedded network and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from prunec.tools.demo import DIGITS, IMAGES
from prunec.tools.demo.__main__ import main


def test_prunes_and_reports_accuracy_and_latency_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for word in ("accuracy", "latency", "proof", "99.8% (449 right)"):
        assert word in printed
    assert (tmp_path / "digits.pruned.onnx").stat().st_size < DIGITS.stat().st_size / 2
    assert (tmp_path / "digits.plan.json").is_file()


def test_the_network_has_its_batch_norms_names_and_a_symbolic_batch() -> None:
    model = ir.load(DIGITS)
    assert sum(node.op_type == "BatchNormalization" for node in model.graph) == 12
    assert "stage2.1.depthwise.weight" in model.graph.initializers
    shape = model.graph.inputs[0].shape
    assert shape is not None
    assert isinstance(shape[0], ir.SymbolicDim)


def test_images_are_held_out_ones_with_labels() -> None:
    with np.load(IMAGES) as archive:
        assert archive["image"].shape == (450, 1, 8, 8)
        assert sorted(set(archive["label"].tolist())) == list(range(10))

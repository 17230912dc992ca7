"""What onnxruntime allocates, and whether placing buffers as it does gives the same number."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from nets import conv, weight
from properties.builder import Builder

from prunec.compiler.buffers import run_of
from prunec.compiler.errors import ModelError
from prunec.runtime.allocation import Allocation, _parsed, measure_allocation
from prunec.runtime.packing import packed_peak
from prunec.runtime.subject import open_model

MAP = 4 * 32 * 16 * 16  # bytes of 32 channels


def biased(b: Builder, x: str, name: str) -> str:
    """3 x 3, 32 channels; with a bias, so that all run in one layout: no copies between them."""
    return b.conv_with(x, weight(b, name, 32, b.shapes[x][1], 3, 3), bias=True)


def blocks(path: Path, count: int) -> Path:
    """Residual blocks of 32 channels at 16 x 16."""
    b = Builder(0, 17, batch=1)
    x = b.relu(biased(b, b.input(1, 3, 16, 16), "stem.weight"))
    for k in range(count):
        y = b.relu(biased(b, x, f"{k}.a.weight"))
        x = b.relu(b.add("Add", [biased(b, y, f"{k}.b.weight"), x]))
    b.output(b.pooled(x))
    onnx.save(b.model(), path)
    return path


def test_residual_blocks_need_two_maps_whatever_their_number(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    for count in (1, 3):
        path = blocks(tmp_path / f"{count}.onnx", count)
        subject = open_model(path)
        graph = subject.graph
        run = run_of(subject.model.graph, graph.held, subject.facts, 17)
        live = graph.costs["memory"](graph.dense())
        assert live == packed_peak(run, subject.facts) == 2 * MAP
        allocated = measure_allocation(path).total
        # Within 15 %: outputs and workspace are not part of the plan.
        assert abs(live / allocated - 1) <= 0.15, allocated


def test_a_small_buffer_in_the_way_costs_a_large_one_its_gap(tmp_path: Path) -> None:
    """The projection finds no gap of its size, because smaller maps lie where the stem was."""
    b = Builder(0, 17, batch=1)
    x = b.add("MaxPool", [conv(b, b.input(1, 3, 32, 32), "stem.weight", 16)], (1, 16, 16, 16),
              kernel_shape=[2, 2], strides=[2, 2])  # fmt: skip
    y = b.relu(conv(b, x, "a.weight", 16, 3))
    y = b.relu(conv(b, y, "b.weight", 16, 3))
    wide = conv(b, x, "projection.weight", 64)
    b.output(b.pooled(b.add("Add", [conv(b, y, "c.weight", 64), wide])))
    path = tmp_path / "m.onnx"
    onnx.save(b.model(), path)
    subject = open_model(path)
    run = run_of(subject.model.graph, subject.graph.held, subject.facts, 17)
    live = subject.graph.costs["memory"](subject.graph.dense())
    assert live == 4 * 16 * 16 * (64 + 16 + 16)
    assert packed_peak(run, subject.facts) > live


def test_the_log_of_the_last_run_counts() -> None:
    line = (
        "2026 [I:onnxruntime:Default, bfc_arena.cc:205 Extend] Extended allocation by {} bytes.\n"
    )
    log = line.format(9_999) + "prunec-run 0\n" + line.format(7_000)
    log += "prunec-run 1\nprunec-run 2\n" + line.format(256) + line.format(1024)
    assert _parsed(log) == Allocation(planned=1024, other=256)
    assert _parsed(log).total == 1280
    assert _parsed("prunec-run 2\n") == Allocation(0, 0)


def test_a_model_that_does_not_run_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="onnxruntime cannot run it"):
        measure_allocation(tmp_path / "m.onnx")

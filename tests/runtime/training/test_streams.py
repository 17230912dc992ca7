"""Streams: shuffled in bounded memory, divided among processes, held out by a hash."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from training_nets import flat, net

from prunec.frontends.onnx import load
from prunec.runtime.chunks import Chunk
from prunec.runtime.inputs import model_inputs
from prunec.runtime.training.batch import Shard
from prunec.runtime.training.streams import Stream, every, shuffled

INPUTS = model_inputs(load(net()))


def chunks(total: int = 120, size: int = 7) -> Iterator[Chunk]:
    """Sample k is labelled k."""
    for start in range(0, total, size):
        labels = np.arange(start, min(start + size, total))
        yield Chunk({"x": np.zeros((len(labels), 3, 4, 4), np.float32)}, labels, "made")


def stream(**changed: object) -> Stream:
    settings = {"batch": 8, "buffer": 16, **changed}
    return Stream(lambda epoch, shard: every(chunks, shard), INPUTS, **settings)  # type: ignore[arg-type]


def read(data: Stream, epoch: int = 1, shard: Shard | None = None) -> list[int]:
    batches = data.epoch(epoch, shard or Shard())
    return [int(k) for batch in batches for k in batch.labels]  # type: ignore[union-attr]


def test_each_sample_comes_once_in_another_order_each_epoch() -> None:
    first, second = read(stream(), 1), read(stream(), 2)
    assert sorted(first) == sorted(second) == list(range(120))
    assert first != second
    assert first == read(stream(), 1)


def test_the_buffer_bounds_how_far_a_sample_moves_forward() -> None:
    order = read(stream(buffer=16))
    assert max(k - place for place, k in enumerate(order)) <= 16


def test_the_buffer_holds_copies_of_single_samples() -> None:
    big = np.zeros((50, 3, 4, 4), np.float32)
    parts = (Chunk({"x": big[k : k + 1]}, None, "big") for k in range(50))
    found = list(shuffled(parts, 8, np.random.default_rng(0)))
    assert len(found) == 50
    assert not any(np.shares_memory(sample.feeds["x"], big) for sample in found)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_read_different_samples(world: int) -> None:
    parts = [read(stream(), 1, Shard(rank, world)) for rank in range(world)]
    assert len(set(flat(parts))) == len(flat(parts))


@pytest.mark.parametrize("world", [1, 2])
def test_held_out_samples_are_the_others_in_every_epoch(world: int) -> None:
    data = stream(batch=1, held=0.25)
    out = stream(batch=1, held=0.25, evaluates=True)
    for rank in range(world):
        shard = Shard(rank, world)
        held = set(read(out, 0, shard))
        assert 0 < len(held) < 60
        for epoch in (1, 2):
            rest = set(read(data, epoch, shard))
            assert not held & rest
            assert held | rest == set(range(rank, 120, world))


def test_a_limit_takes_the_first_samples() -> None:
    assert sorted(read(stream(batch=1, limit=10))) == list(range(10))


def test_samples_of_different_shapes_come_in_batches_of_their_own() -> None:
    def source(epoch: int, shard: Shard) -> Iterator[Chunk]:
        for k in range(40):
            side = 4 + k % 2
            yield Chunk({"x": np.zeros((1, 3, 4, side), np.float32)}, None, "ragged")

    free = tuple(type(spec)(spec.name, spec.dtype, (None, 3, 4, None)) for spec in INPUTS)
    shapes = [tuple(b.feeds["x"].shape) for b in Stream(source, free, 8).epoch(1, Shard())]
    assert sorted(shapes) == [(8, 3, 4, 4)] * 2 + [(8, 3, 4, 5)] * 2

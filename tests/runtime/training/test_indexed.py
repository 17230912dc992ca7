"""Samples in any order: shuffling, shards, batches, stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from training_nets import flat, images, indexed, net

from prunec.compiler.errors import DataError
from prunec.frontends.onnx import load
from prunec.runtime.chunks import Chunk
from prunec.runtime.inputs import model_inputs
from prunec.runtime.training.batch import Shard
from prunec.runtime.training.indexed import ArrayStore, Indexed, MapStore, arrays_of, split

INPUTS = model_inputs(load(net()))


def numbers(data: Indexed, epoch: int, shard: Shard | None = None) -> list[int]:
    batches = data.epoch(epoch, shard or Shard())
    return [int(k) for batch in batches for k in batch.index]


def test_an_epoch_has_each_sample_once_in_another_order() -> None:
    data = indexed(96, 16)
    first, second = numbers(data, 1), numbers(data, 2)
    assert sorted(first) == sorted(second) == list(range(96))
    assert first != second
    assert first == numbers(indexed(96, 16), 1)


def test_batches_hold_the_samples_that_their_index_says() -> None:
    x, y = images(96)
    for batch in indexed(96, 16).epoch(3, Shard()):
        assert batch.index is not None
        assert batch.labels is not None
        np.testing.assert_array_equal(batch.feeds["x"].numpy(), x[batch.index.numpy()])
        np.testing.assert_array_equal(batch.labels.numpy(), y[batch.index.numpy()])


def test_what_fills_no_batch_is_left_out_of_training() -> None:
    data = indexed(100, 16)
    left = [set(range(100)) - set(numbers(data, epoch)) for epoch in (1, 2)]
    assert [len(part) for part in left] == [4, 4]
    assert left[0] != left[1]
    assert len(numbers(indexed(10, 16), 1)) == 10  # the only batch


def test_evaluation_reads_each_sample_in_order() -> None:
    data = indexed(100, 16).part(np.arange(100), shuffle=False, offset=1000)
    assert numbers(data, 0) == list(range(1000, 1100))
    parts = [numbers(data, 0, Shard(rank, 3)) for rank in range(3)]
    assert sorted(flat(parts)) == list(range(1000, 1100))


@pytest.mark.parametrize("world", [2, 3])
def test_processes_read_different_samples_in_as_many_batches(world: int) -> None:
    data = indexed(100, 8)
    parts = [numbers(data, 5, Shard(rank, world)) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    assert len(set(flat(parts))) == sum(map(len, parts))
    assert {data.batches(Shard(rank, world)) for rank in range(world)} == {len(parts[0]) // 8}


def test_going_on_in_an_epoch_gives_the_rest() -> None:
    data = indexed(96, 16)
    rest = [int(k) for batch in data.epoch(4, Shard(), 2) for k in batch.index]
    assert rest == numbers(data, 4)[32:]


def test_arrays_are_not_copied_as_a_whole(tmp_path: Path) -> None:
    x, y = images(64)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert arrays_of({"x": np.asarray(mapped)}) == 0
    assert arrays_of({"x": x}) == x.nbytes
    store = ArrayStore(Chunk({"x": x}, y, "memory"))
    data = Indexed(store, INPUTS, np.arange(64), 16)
    before = x[5].copy()
    for batch in data.epoch(1, Shard()):
        batch.feeds["x"].zero_()  # what a caller does to a batch does not reach the data
    assert store.chunk.feeds["x"] is x
    np.testing.assert_array_equal(x[5], before)


def test_the_split_is_a_partition_drawn_by_the_seed() -> None:
    train, held = split(1000, 0.1, 0)
    assert len(held) == 100
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(1000))
    assert set(held) != set(split(1000, 0.1, 1)[1])


class Pictures(Dataset[Any]):
    """A map-style dataset as torchvision's are: (tensor, int)."""

    def __init__(self, broken: int = -1) -> None:
        self.x, self.y = images(40)
        self.broken = broken

    def __len__(self) -> int:
        return 40

    def __getitem__(self, k: int) -> tuple[torch.Tensor, int]:
        if k == self.broken:
            raise KeyError("no such picture")
        return torch.from_numpy(self.x[k]), int(self.y[k])


@pytest.mark.parametrize("workers", [0, 1])
def test_datasets_of_torch_are_read_one_sample_at_a_time(workers: int) -> None:
    store = MapStore(Pictures(), INPUTS, "mine:pictures")
    data = Indexed(store, INPUTS, np.arange(40), 8, workers=workers)
    x, y = images(40)
    for batch in data.epoch(1, Shard()):
        assert batch.index is not None
        assert batch.labels is not None
        np.testing.assert_array_equal(batch.feeds["x"].numpy(), x[batch.index.numpy()])
        np.testing.assert_array_equal(batch.labels.numpy(), y[batch.index.numpy()])


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_dataset_raises_is_one_line(workers: int) -> None:
    store = MapStore(Pictures(broken=3), INPUTS, "mine:pictures")
    data = Indexed(store, INPUTS, np.arange(40), 8, workers=workers)
    with pytest.raises(DataError) as caught:
        list(data.epoch(1, Shard()))
    assert str(caught.value) == "mine:pictures failed with KeyError: 'no such picture'"


def test_samples_of_different_shapes_are_named() -> None:
    class Ragged(Pictures):
        def __getitem__(self, k: int) -> tuple[torch.Tensor, int]:
            return torch.zeros(3, 4, 4 + k % 2), 0

    data = Indexed(MapStore(Ragged(), INPUTS, "mine:ragged"), INPUTS, np.arange(40), 8)
    with pytest.raises(DataError, match="cannot share a batch; crop or pad"):
        list(data.epoch(1, Shard()))

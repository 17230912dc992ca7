"""Samples that can be read in any order: arrays in memory or mapped, files, map-style datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from prunec.compiler.errors import DataError, PrunecError, first_line
from prunec.runtime.arrays import named_arrays
from prunec.runtime.chunks import Chunk, Labels, checked, chunk_of
from prunec.runtime.images import Preparation, read_images
from prunec.runtime.inputs import Array, InputSpec
from prunec.runtime.training.batch import Batch, Shard, as_batch

Indices = NDArray[np.int64]


class Store(Protocol):
    """Where samples lie."""

    @property
    def size(self) -> int:
        """How many."""
        ...

    def gather(self, chosen: Indices) -> Chunk:
        """These samples in this order. Raises DataError."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ArrayStore:
    """Arrays with samples along axis 0, in memory or mapped; never copied as a whole."""

    chunk: Chunk

    @property
    def size(self) -> int:
        """How many."""
        return self.chunk.samples

    def gather(self, chosen: Indices) -> Chunk:
        """Copies of these samples."""
        feeds = {name: array[chosen] for name, array in self.chunk.feeds.items()}
        labels = None if self.chunk.labels is None else self.chunk.labels[chosen]
        return Chunk(feeds, labels, self.chunk.source)


@dataclass(frozen=True, slots=True, eq=False)
class ImageStore:
    """Image files, decoded each time they are read."""

    paths: Sequence[Path]
    labels: Labels | None
    input: InputSpec
    preparation: Preparation
    source: str

    @property
    def size(self) -> int:
        """How many."""
        return len(self.paths)

    def gather(self, chosen: Indices) -> Chunk:
        """These images, decoded."""
        paths = [self.paths[i] for i in chosen]
        arrays = [array for _, array in read_images(paths, self.input, self.preparation)]
        labels = None if self.labels is None else self.labels[chosen]
        return Chunk({self.input.name: _stacked(arrays, self.source, True)}, labels, self.source)


@dataclass(frozen=True, slots=True, eq=False)
class MapStore:
    """A map-style dataset of the user's: ``len(d)`` and ``d[i]``, one sample at a time."""

    dataset: Any
    inputs: tuple[InputSpec, ...]
    source: str

    @property
    def size(self) -> int:
        """How many."""
        return len(self.dataset)

    def gather(self, chosen: Indices) -> Chunk:
        """These samples, stacked. Raises DataError for whatever the user's code raises."""
        try:
            items = [self.dataset[int(i)] for i in chosen]
            rows = [named_arrays(item, self.inputs, self.source) for item in items]
        except PrunecError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {first_line(error)}"
            raise DataError(f"{self.source} failed with {what}") from error
        names = list(rows[0])
        if any(list(row) != names for row in rows):
            raise DataError(f"{self.source}: its samples hold different names")
        arrays = {n: _stacked([row[n] for row in rows], self.source, False) for n in names}
        return chunk_of(arrays, self.inputs, self.source)


def _stacked(arrays: Sequence[Array], source: str, joined: bool) -> Array:
    if len({a.shape for a in arrays}) > 1:
        first, other = sorted({a.shape for a in arrays})[:2]
        raise DataError(
            f"{source}: samples of shapes {first} and {other} cannot share a batch; "
            "crop or pad them to one size"
        )
    return np.concatenate(arrays) if joined else np.stack(arrays)


@dataclass(frozen=True, slots=True, eq=False)
class Indexed:
    """Chosen samples of a store, shuffled anew each epoch.

    Training leaves out what fills no batch, other samples each epoch; with shuffle False each
    sample is read once, in order (evaluation). whole: the model takes this batch size only. offset:
    added to `Batch.index`, so that two sets of samples share one table of answers. workers:
    processes that gather; 0: this one.
    """

    store: Store
    inputs: tuple[InputSpec, ...]
    chosen: Indices
    batch: int
    shuffle: bool = True
    seed: int = 0
    whole: bool = False
    offset: int = 0
    workers: int = 0

    @property
    def size(self) -> int:
        """Samples in all processes together."""
        return len(self.chosen)

    def batches(self, shard: Shard) -> int:
        """Batches of an epoch in this process."""
        return len(self._cuts(0, shard))

    def epoch(self, number: int, shard: Shard, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch without the first `skip`."""
        cuts = self._cuts(number, shard)[skip:]
        if not self.workers:
            yield from (self._batch(cut) for cut in cuts)
            return
        # batch_size None: each "sample" of the loader is a whole batch of ours.
        loader: DataLoader[Any] = DataLoader(
            _Batches(self, cuts),  # type: ignore[arg-type]
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_same,
        )
        for found in loader:
            if isinstance(found, PrunecError):
                raise found
            yield found

    def _cuts(self, number: int, shard: Shard) -> list[Indices]:
        """The samples of each batch of this process."""
        order = self.chosen
        if self.shuffle:
            order = np.random.default_rng([self.seed, number]).permutation(order)
            order = order[: len(order) // shard.world * shard.world]  # as many in each process
        own = order[shard.rank :: shard.world]
        parts = [own[at : at + self.batch] for at in range(0, len(own), self.batch)]
        partial = bool(parts) and len(parts[-1]) < self.batch
        if partial and (self.whole or (self.shuffle and len(parts) > 1)):
            parts.pop()
        return parts

    def _batch(self, chosen: Indices) -> Batch:
        chunk = checked(self.store.gather(chosen), self.inputs)
        return as_batch(chunk.feeds, chunk.labels, chosen + self.offset)

    def part(self, chosen: Indices, **changed: Any) -> Indexed:
        """The same with other samples, and other fields where `changed` says so."""
        return replace(self, chosen=chosen, **changed)


@dataclass(frozen=True, slots=True, eq=False)
class _Batches:
    """What the loader's processes see: batch number -> batch, or the error that it raised."""

    samples: Indexed
    cuts: Sequence[Indices]

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, number: int) -> Batch | PrunecError:
        try:
            return self.samples._batch(self.cuts[number])
        except PrunecError as error:  # the loader would wrap it in a traceback's text
            return error


def _same(batch: object) -> object:
    return batch


def split(size: int, share: float, seed: int) -> tuple[Indices, Indices]:
    """Numbers of training and of held-out samples, drawn by the seed; both in order.

    >>> [len(part) for part in split(50, 0.1, 0)]
    [45, 5]
    """
    order = np.random.default_rng([seed, 0x48E1D]).permutation(size)
    held = round(share * size)
    return np.sort(order[held:]), np.sort(order[:held])


def arrays_of(arrays: Mapping[str, Array]) -> int:
    """Bytes that arrays take in memory; mapped files take none."""
    return sum(0 if isinstance(_root(a), np.memmap) else a.nbytes for a in arrays.values())


def _root(array: Array) -> object:
    base: object = array
    while (
        isinstance(base, np.ndarray) and not isinstance(base, np.memmap) and base.base is not None
    ):
        base = base.base
    return base

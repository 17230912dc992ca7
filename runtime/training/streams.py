"""Samples that come one after the other: shuffled in a buffer of bounded size."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.errors import DataError
from prunec.runtime.chunks import Chunk, checked
from prunec.runtime.inputs import InputSpec
from prunec.runtime.training.batch import Batch, Shard, as_batch

# Chunks of one epoch for one process, each with where it comes from.
Source = Callable[[int, Shard], Iterator[Chunk]]


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """A source that can only be read through.

    held: share of samples that are held out, by a hash of their place in their file; `evaluates`
    chooses which of both this is. buffer: samples in memory among which the next is drawn. Samples
    of different shapes come in different batches.
    """

    source: Source
    inputs: tuple[InputSpec, ...]
    batch: int
    buffer: int = 2048
    seed: int = 0
    held: float = 0.0
    evaluates: bool = False
    whole: bool = False
    limit: int | None = None

    @property
    def size(self) -> None:
        """Unknown."""
        return None

    def batches(self, shard: Shard) -> None:
        """Unknown."""
        return None

    def epoch(self, number: int, shard: Shard, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch without the first `skip`, which are read all the same."""
        order = 0 if self.evaluates else number
        rng = np.random.default_rng([self.seed, order, shard.rank])
        samples = self._wanted(self.source(order, shard), shard)
        if not self.evaluates:
            samples = shuffled(samples, self.buffer, rng)
        drop = self.whole or not self.evaluates
        for at, chunks in enumerate(batched(samples, self.batch, drop, self.whole)):
            if at >= skip:
                chunk = checked(joined(chunks), self.inputs)
                yield as_batch(chunk.feeds, chunk.labels)

    def _wanted(self, chunks: Iterable[Chunk], shard: Shard) -> Iterator[Chunk]:
        """Single samples of one process, those that are held out or the others."""
        seen: dict[str, int] = {}
        left = sys.maxsize
        if self.limit is not None:
            left = -((shard.rank - self.limit) // shard.world)  # this process's part, rounded up
        for chunk in chunks:
            start = seen.get(chunk.source, 0)
            seen[chunk.source] = start + chunk.samples
            numbers = start + np.arange(min(chunk.samples, left))
            out = drawn(numbers, crc32(chunk.source.encode()) ^ self.seed) < self.held
            for k in map(int, np.flatnonzero(out == self.evaluates)):
                yield chunk.part(k, k + 1)
            left -= chunk.samples
            if left <= 0:
                return

    def part(self, *, evaluates: bool, held: float) -> Stream:
        """The held-out samples of the stream, or the others."""
        return replace(self, evaluates=evaluates, held=held)


def drawn(numbers: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A fixed number in [0, 1) for each integer (the finaliser of splitmix64).

    >>> bool(abs(drawn(np.arange(4000), 1).mean() - 0.5) < 0.02)
    True
    """
    with np.errstate(over="ignore"):
        x = (numbers.astype(np.uint64) + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))).astype(np.float64) / 2.0**64


def every(source: Callable[[], Iterator[Chunk]], shard: Shard) -> Iterator[Chunk]:
    """The source's chunks with every world-th sample, starting with this process's number."""
    seen = 0
    for chunk in source():
        own = slice((shard.rank - seen) % shard.world, None, shard.world)
        seen += chunk.samples
        part = Chunk(
            {name: array[own] for name, array in chunk.feeds.items()},
            None if chunk.labels is None else chunk.labels[own],
            chunk.source,
        )
        if part.samples:
            yield part


def shuffled(samples: Iterable[Chunk], buffer: int, rng: np.random.Generator) -> Iterator[Chunk]:
    """Single samples in random order: each leaves a buffer when a later one takes its place."""
    held: list[Chunk] = []
    for sample in samples:
        if len(held) < buffer:
            held.append(_own(sample))
            continue
        at = int(rng.integers(buffer))
        held[at], gone = _own(sample), held[at]
        yield gone
    for at in rng.permutation(len(held)):
        yield held[at]


def _own(sample: Chunk) -> Chunk:
    """A copy: a view would keep the whole chunk in memory."""
    feeds = {name: array.copy() for name, array in sample.feeds.items()}
    return Chunk(feeds, sample.labels, sample.source)


def batched(samples: Iterable[Chunk], batch: int, drop: bool, whole: bool) -> Iterator[list[Chunk]]:
    """Samples in groups of `batch` of equal shapes.

    drop: leave out smaller groups at the end, unless there is no other and not `whole`.
    """
    pending: dict[tuple[object, ...], list[Chunk]] = {}
    found = False
    for sample in samples:
        shape = tuple((name, a.shape[1:], a.dtype) for name, a in sorted(sample.feeds.items()))
        group = pending.setdefault((*shape, sample.labels is None), [])
        group.append(sample)
        if len(group) == batch:
            found = True
            yield group
            pending.pop((*shape, sample.labels is None))
    if drop and (found or whole):
        return
    yield from pending.values()


def joined(chunks: list[Chunk]) -> Chunk:
    """One chunk of samples of equal shapes."""
    feeds = {n: np.concatenate([c.feeds[n] for c in chunks]) for n in chunks[0].feeds}
    labels = [c.labels for c in chunks if c.labels is not None]
    if labels and len(labels) < len(chunks):
        raise DataError(f"{chunks[0].source}: some data has labels, some has none")
    return Chunk(feeds, np.concatenate(labels) if labels else None, chunks[0].source)

"""``--data`` for training: which kind it is, what is held in memory, what is held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset

from prunec.compiler.errors import DataError
from prunec.runtime.arrays import call, result_chunks
from prunec.runtime.chunks import Chunk
from prunec.runtime.data import ARRAY_SUFFIXES, DataSpec, load_data, refuse_preparation
from prunec.runtime.images import Preparation, list_images
from prunec.runtime.inputs import InputSpec
from prunec.runtime.training.batch import Batch, Shard
from prunec.runtime.training.indexed import (
    ArrayStore,
    ImageStore,
    Indexed,
    MapStore,
    Store,
    arrays_of,
    split,
)
from prunec.runtime.training.samples import Samples
from prunec.runtime.training.shards import Shards, is_shards, shard_files
from prunec.runtime.training.streams import Source, Stream, every

GiB = 2**30


@dataclass(frozen=True, slots=True)
class Reading:
    """How data is read. memory: bytes of samples that are held in memory so that they can be
    drawn in any order; more are streamed, `buffer` samples at a time. workers: processes that
    decode images and call datasets; 0: this one. whole: the model takes this batch only.
    """

    batch: int = 128
    memory: int = 4 * GiB
    buffer: int = 2048
    workers: int = 0
    seed: int = 0
    whole: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Divided:
    """Samples to train with and those held out. labelled: whether samples have labels."""

    train: Indexed | Stream
    held_out: Indexed | Stream | None
    labelled: bool

    @property
    def indexed(self) -> int:
        """How many numbers `Batch.index` can have; 0 for streams."""
        parts = [p for p in (self.train, self.held_out) if isinstance(p, Indexed)]
        return max((int(p.chosen.max()) + p.offset + 1 for p in parts if p.size), default=0)


def divided(
    spec: DataSpec,
    inputs: Sequence[InputSpec],
    how: Reading,
    share: float = 0.0,
    other: DataSpec | None = None,
) -> Divided:
    """Open data for training, with a share of it, or other data, held out.

    Raises DataError where there is nothing to read, or nothing left to train with.
    """
    train: Indexed | Stream = opened(spec, inputs, how)
    held: Indexed | Stream | None = None
    if other is not None:
        held = for_evaluation(opened(other, inputs, how), train.size or 0)
    elif isinstance(train, Indexed) and share:
        chosen, out = split(train.size, share, how.seed)
        if not len(chosen):
            raise DataError(f"{spec.path}: nothing is left to train with")
        if len(out):
            held = for_evaluation(train.part(train.chosen[out]))
        train = train.part(train.chosen[chosen])
    elif isinstance(train, Stream) and share:
        train, held = (train.part(evaluates=e, held=share) for e in (False, True))
    return Divided(train, held, _has_labels(train))


def for_evaluation(data: Indexed | Stream, offset: int = 0) -> Indexed | Stream:
    """The same samples, each once, in order."""
    if isinstance(data, Indexed):
        return replace(data, shuffle=False, offset=data.offset + offset)
    return replace(data, evaluates=True, held=1.1 if not data.held else data.held)


def _has_labels(data: Indexed | Stream) -> bool:
    first: Batch | None = next(data.epoch(1, Shard()), None)
    if first is None:
        least = f"{data.batch} samples (the model's fixed batch)" if data.whole else "a sample"
        raise DataError(f"the training data holds less than {least}")
    return first.labels is not None


def opened(spec: DataSpec, inputs: Sequence[InputSpec], how: Reading) -> Indexed | Stream:
    """All samples of the data. Raises DataError."""
    if spec.limit is not None and spec.limit < 1:
        raise DataError(f"--samples must be at least 1, not {spec.limit}")
    free = tuple(inputs)
    found = _found(spec, free, how)
    if not isinstance(found, Stream):
        if not found.size:
            raise DataError(f"{spec.path}: holds no sample")
        chosen = np.arange(found.size)
        if spec.limit is not None and spec.limit < found.size:
            # Drawn: the first N of data that is sorted by class would all be of one.
            rng = np.random.default_rng([how.seed, 0x117])
            chosen = np.sort(rng.choice(found.size, spec.limit, replace=False))
        workers = 0 if isinstance(found, ArrayStore) else how.workers
        return Indexed(
            found, free, chosen, how.batch, seed=how.seed, whole=how.whole, workers=workers
        )
    return found


def _found(spec: DataSpec, inputs: tuple[InputSpec, ...], how: Reading) -> Store | Stream:
    path = Path(spec.path)
    preparation = Preparation(spec.mean, spec.std, spec.resize)
    if is_shards(spec.path):
        shards = Shards(shard_files(spec.path), inputs, preparation, how.seed)
        return _in_memory(lambda: shards(0, Shard()), spec, how) or _stream(
            shards, spec, inputs, how
        )
    if path.is_dir() and not any(p.suffix.lower() in ARRAY_SUFFIXES for p in path.iterdir()):
        load_data(spec, inputs)  # says what is wrong with the folder
        paths, labels = list_images(path)
        return ImageStore(paths, labels, inputs[0], preparation, spec.path)
    if not path.exists() and ":" in spec.path:
        refuse_preparation(spec)
        return _called(spec, inputs, how)
    source = load_data(replace(spec, limit=None), inputs).chunks
    return _in_memory(source, spec, how) or _stream(_shared(source), spec, inputs, how)


def _called(spec: DataSpec, inputs: tuple[InputSpec, ...], how: Reading) -> Store | Stream:
    """What ``module:function`` gives: a torch dataset, or whatever `result_chunks` takes."""
    result: Any = call(spec.path)
    if isinstance(result, TorchDataset) and not isinstance(result, IterableDataset):
        return MapStore(result, inputs, spec.path)
    if isinstance(result, IterableDataset):
        # May be endless, and may draw its samples anew each time: never held.
        source = _shared(lambda: result_chunks(spec.path, result, inputs))
        return _stream(source, spec, inputs, how)
    held = _in_memory(lambda: result_chunks(spec.path, result, inputs), spec, how)
    if held is not None:
        return held
    again = _shared(lambda: result_chunks(spec.path, call(spec.path), inputs))
    return _stream(again, spec, inputs, how)


def _shared(source: Callable[[], Iterator[Chunk]]) -> Source:
    return lambda epoch, shard: every(source, shard)


def _stream(source: Source, spec: DataSpec, inputs: tuple[InputSpec, ...], how: Reading) -> Stream:
    limit = spec.limit
    return Stream(source, inputs, how.batch, how.buffer, how.seed, whole=how.whole, limit=limit)


def _in_memory(
    source: Callable[[], Iterator[Chunk]], spec: DataSpec, how: Reading
) -> ArrayStore | None:
    """All samples as one chunk, or None where they take too much memory or differ in shape."""
    held: list[Chunk] = []
    taken = 0
    for chunk in source():
        taken += arrays_of(chunk.feeds)
        held.append(chunk)
        if taken > how.memory and (len(held) > 1 or not how.memory):
            return None
    if not held:
        raise DataError(f"{spec.path}: holds no sample")
    if len(held) == 1:
        return ArrayStore(held[0])
    first = held[0]
    alike = all(
        c.feeds[n].shape[1:] == a.shape[1:] and (c.labels is None) == (first.labels is None)
        for c in held
        for n, a in first.feeds.items()
    )
    return ArrayStore(_concatenated(held, taken, how)) if alike and taken <= how.memory else None


def _concatenated(held: Sequence[Chunk], taken: int, how: Reading) -> Chunk:
    labels = [c.labels for c in held if c.labels is not None]
    feeds = {n: np.concatenate([c.feeds[n] for c in held]) for n in held[0].feeds}
    return Chunk(feeds, np.concatenate(labels) if labels else None, held[0].source)


def first_batch(data: Samples) -> Batch:
    """A batch to try the model with."""
    return next(islice(data.epoch(1, Shard()), 1))

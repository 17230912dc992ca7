"""Calibration and evaluation data: every form of ``--data`` as batches of feeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prunec.compiler.errors import DataError
from prunec.runtime.arrays import array_chunks, call_function
from prunec.runtime.chunks import Chunk, Labels, checked
from prunec.runtime.images import Preparation, list_images, read_images
from prunec.runtime.inputs import Array, Feeds, InputSpec

ARRAY_SUFFIXES = frozenset({".npy", ".npz"})
DEFAULT_BATCH = 32


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What the user said about data.

    path: an .npz or .npy file, a folder of them, a folder of images, or ``module:function``.
    mean, std, resize: for images (see Preparation). limit: at most so many samples.
    """

    path: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int | None = None
    limit: int | None = None
    batch: int = DEFAULT_BATCH


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Samples that fit the model's inputs; every iteration starts anew, in bounded memory."""

    spec: DataSpec
    inputs: tuple[InputSpec, ...]
    batch: int
    whole: bool
    chunks: Callable[[], Iterator[Chunk]]

    def __iter__(self) -> Iterator[Feeds]:
        """Feeds of one batch after the other; the last may be smaller unless `whole`."""
        return (feeds for feeds, _ in self.batches())

    def batches(self) -> Iterator[tuple[Feeds, Labels | None]]:
        """Feeds with their labels. Raises DataError, also when there is no sample at all."""
        found = False
        for chunk in _rebatched(self._limited(), self.batch):
            if self.whole and chunk.samples < self.batch:
                continue  # the model takes this batch size and no other
            found = True
            yield dict(chunk.feeds), chunk.labels
        if not found:
            least = f"{self.batch} samples (the model's fixed batch)" if self.whole else "a sample"
            raise DataError(f"{self.spec.path}: holds less than {least}")

    @property
    def labels(self) -> Labels | None:
        """Labels of all samples in order, or None; reads the data once."""
        found = [labels for _, labels in self.batches()]
        known = [labels for labels in found if labels is not None]
        return np.concatenate(known) if len(known) == len(found) else None

    def _limited(self) -> Iterator[Chunk]:
        left = self.spec.limit
        for chunk in self.chunks():
            part = chunk if left is None else chunk.part(0, min(left, chunk.samples))
            if part.samples:
                yield checked(part, self.inputs)
            if left is not None:
                left -= part.samples
                if left <= 0:
                    return


def load_data(spec: DataSpec, inputs: Sequence[InputSpec]) -> Dataset:
    """Open the data for a model with these inputs; contents are read while iterating.

    Raises DataError where the path is missing, empty or of no known form.
    """
    if spec.limit is not None and spec.limit < 1:
        raise DataError(f"--samples must be at least 1, not {spec.limit}")
    if spec.batch < 1:
        raise DataError(f"the batch size must be at least 1, not {spec.batch}")
    fixed = {
        x.shape[0]
        for x in inputs
        if x.shape is not None and x.shape and isinstance(x.shape[0], int)
    }
    batch = int(fixed.pop()) if len(fixed) == 1 else spec.batch
    whole = any(x.shape and isinstance(x.shape[0], int) for x in inputs)
    return Dataset(spec, tuple(inputs), batch, whole, _source(spec, tuple(inputs)))


def _source(spec: DataSpec, inputs: tuple[InputSpec, ...]) -> Callable[[], Iterator[Chunk]]:
    path = Path(spec.path)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in ARRAY_SUFFIXES)
        if not files:
            return _images(path, spec, inputs)
    elif path.is_file() and path.suffix.lower() in ARRAY_SUFFIXES:
        files = [path]
    elif path.is_file() and path.suffix.lower() != ".py":
        raise DataError(f"{path}: data files are .npz or .npy")
    elif ":" in spec.path:
        refuse_preparation(spec)
        return lambda: call_function(spec.path, inputs)
    else:
        raise DataError(
            f"{path}: no such file or folder"
            if not path.exists()
            else f"{path}: name the function that yields feeds: {path}:FUNCTION"
        )
    refuse_preparation(spec)
    return lambda: array_chunks(files, inputs, spec.path)


def refuse_preparation(spec: DataSpec) -> None:
    """Raise DataError where options for images are given and the data is arrays."""
    if spec.mean or spec.std or spec.resize is not None:
        raise DataError(
            f"{spec.path}: --mean, --std and --resize are for image files; "
            "arrays are taken as they are"
        )


def _images(
    folder: Path, spec: DataSpec, inputs: tuple[InputSpec, ...]
) -> Callable[[], Iterator[Chunk]]:
    if len(inputs) != 1:
        raise DataError(f"{folder}: images can feed one input, the model has {len(inputs)}")
    paths, labels = list_images(folder)
    if not paths:
        raise DataError(f"{folder}: no .npy, .npz or image file in this folder")
    if spec.limit is not None and spec.limit < len(paths):
        # Evenly spread: the first N files of a sorted tree would all be of one class.
        chosen = np.linspace(0, len(paths), spec.limit, endpoint=False).astype(np.int64)
        paths = [paths[i] for i in chosen]
        labels = None if labels is None else labels[chosen]
    preparation = Preparation(spec.mean, spec.std, spec.resize)

    def chunks() -> Iterator[Chunk]:
        for number, (path, array) in enumerate(read_images(paths, inputs[0], preparation)):
            label = None if labels is None else labels[number : number + 1]
            yield Chunk({inputs[0].name: array}, label, str(path))

    return chunks


def _rebatched(chunks: Iterator[Chunk], batch: int) -> Iterator[Chunk]:
    """The same samples in chunks of `batch`; where shapes change, a smaller one comes first."""
    pending: list[Chunk] = []
    for chunk in chunks:
        if pending and not _joins(pending[0], chunk):
            yield _joined(pending)
            pending = []
        start = 0
        while start < chunk.samples:
            room = batch - sum(c.samples for c in pending)
            pending.append(chunk.part(start, start + room))
            start += room
            if sum(c.samples for c in pending) >= batch:
                yield _joined(pending)
                pending = []
    if pending:
        yield _joined(pending)


def _joins(first: Chunk, second: Chunk) -> bool:
    if (first.labels is None) != (second.labels is None):
        raise DataError(f"{second.source}: some data has labels, some has none")
    return all(first.feeds[name].shape[1:] == a.shape[1:] for name, a in second.feeds.items())


def _joined(chunks: Sequence[Chunk]) -> Chunk:
    def join(arrays: Sequence[Array]) -> Array:
        return np.ascontiguousarray(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))

    feeds: Mapping[str, Array] = {
        name: join([chunk.feeds[name] for chunk in chunks]) for name in chunks[0].feeds
    }
    labels = [chunk.labels for chunk in chunks if chunk.labels is not None]
    return Chunk(feeds, np.concatenate(labels) if labels else None, chunks[0].source)

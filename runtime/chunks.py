"""A few samples on their way to the model, and the checks that they fit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.errors import DataError
from prunec.runtime.inputs import Array, InputSpec

Labels = NDArray[np.int64]
LABEL_NAMES = ("labels", "label", "y", "target", "targets")
DATA_NAMES = ("x", "image", "images", "input", "inputs", "data")


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Samples along axis 0 of every array. source: file or function, for messages."""

    feeds: Mapping[str, Array]
    labels: Labels | None
    source: str

    @property
    def samples(self) -> int:
        """How many samples it holds."""
        return len(next(iter(self.feeds.values())))

    def part(self, start: int, stop: int) -> Chunk:
        """Samples [start, stop), as views."""
        labels = None if self.labels is None else self.labels[start:stop]
        return Chunk({k: v[start:stop] for k, v in self.feeds.items()}, labels, self.source)


def chunk_of(arrays: Mapping[str, Array], inputs: Sequence[InputSpec], source: str) -> Chunk:
    """Find the inputs and the labels among named arrays.

    Inputs go by name; a model with one input also takes the only array, or one under a usual
    name. A single sample (one axis less than the input) becomes a batch of one.
    """
    names = [spec.name for spec in inputs]
    label = next((n for n in LABEL_NAMES if n in arrays and n not in names), None)
    others = [name for name in arrays if name not in (label, *names)]
    if set(names) <= set(arrays):
        found = {name: arrays[name] for name in names}
    elif len(names) == 1 and len(others) == 1:
        found = {names[0]: arrays[others[0]]}
    elif len(names) == 1 and sum(name in DATA_NAMES for name in others) == 1:
        found = {names[0]: arrays[next(name for name in others if name in DATA_NAMES)]}
    else:
        raise DataError(
            f"{source}: holds {', '.join(arrays) or 'no array'}; "
            f"the model's inputs are {', '.join(names)}"
        )
    feeds = {spec.name: _batched(found[spec.name], spec) for spec in inputs}
    labels = None if label is None else _labels(arrays[label], source)
    return _same_length(Chunk(feeds, labels, source))


def _batched(array: Array, spec: InputSpec) -> Array:
    single = spec.shape is not None and array.ndim == len(spec.shape) - 1
    return array[None] if single else array


def _labels(array: Array, source: str) -> Labels:
    if array.dtype.kind not in "iu":
        raise DataError(f"{source}: labels must be integers, not {array.dtype}")
    flat = array.reshape(-1)
    if flat.size != max(len(array) if array.ndim else 1, 1):
        raise DataError(f"{source}: labels must be one number per sample, not {array.shape}")
    return flat.astype(np.int64)


def _same_length(chunk: Chunk) -> Chunk:
    scalars = [name for name, array in chunk.feeds.items() if array.ndim == 0]
    if scalars:
        raise DataError(f"{chunk.source}: {scalars[0]!r} has no batch axis")
    lengths = {name: len(array) for name, array in chunk.feeds.items()}
    if chunk.labels is not None:
        lengths["labels"] = len(chunk.labels)
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise DataError(f"{chunk.source}: different numbers of samples: {shown}")
    return chunk


def checked(chunk: Chunk, inputs: Sequence[InputSpec]) -> Chunk:
    """The chunk in the inputs' element types. Raises DataError if it doesn't fit or holds NaN."""
    feeds = {spec.name: _checked(chunk.feeds[spec.name], spec, chunk.source) for spec in inputs}
    return Chunk(feeds, chunk.labels, chunk.source)


def _checked(array: Array, spec: InputSpec, source: str) -> Array:
    what = f"{source}: input {spec.name!r} must be {spec.describe()}"
    if not spec.fits(array.shape, skip=1):
        raise DataError(f"{what}, got shape {tuple(array.shape)}")
    if array.dtype.kind not in "biuf" or not _converts(array.dtype, spec.dtype):
        hint = "; scale it as in training (arrays are taken as they are)"
        to_float = array.dtype.kind in "iu" and spec.dtype.kind == "f"
        raise DataError(f"{what}, got {array.dtype}{hint if to_float else ''}")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise DataError(f"{source}: input {spec.name!r} holds NaN")
    return array.astype(spec.dtype, copy=False)


def _converts(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Within floats any width; within integers only without loss; never from one to the other."""
    if source.kind == "f" and (target.kind == "f" or target.name == "bfloat16"):
        return True
    return source == target or (
        source.kind in "iu" and target.kind in "iu" and np.can_cast(source, target, "safe")
    )

"""One batch on its way to the model, and which part of the data a process reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prunec.runtime.chunks import Labels
from prunec.runtime.inputs import Array


@dataclass(frozen=True, slots=True)
class Shard:
    """Process `rank` of `world`; it reads every world-th sample."""

    rank: int = 0
    world: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Samples along axis 0 of every feed.

    labels: (samples,) int64. index: (samples,) int64, the sample's number, the same in every epoch;
    None where the data has no order of its own (streams).
    """

    feeds: Mapping[str, Tensor]
    labels: Tensor | None = None
    index: Tensor | None = None

    @property
    def samples(self) -> int:
        """How many samples it holds."""
        return len(next(iter(self.feeds.values())))

    def to(self, device: torch.device) -> Batch:
        """The same on a device; copies to a GPU do not wait."""
        if device.type == "cpu":
            return self
        return Batch(
            {name: _moved(feed, device) for name, feed in self.feeds.items()},
            None if self.labels is None else _moved(self.labels, device),
            self.index,  # stays: it addresses what lies on the CPU
        )


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)


def as_batch(
    feeds: Mapping[str, Array], labels: Labels | None, index: Array | None = None
) -> Batch:
    """Arrays as tensors, sharing memory where torch can."""
    return Batch(
        {name: as_tensor(array) for name, array in feeds.items()},
        None if labels is None else as_tensor(labels),
        None if index is None else as_tensor(index),
    )


def as_tensor(array: Array) -> Tensor:
    """An array as a tensor; bfloat16 too, which numpy knows through ml_dtypes only."""
    whole = np.ascontiguousarray(array)
    if not whole.flags.writeable:
        whole = whole.copy()  # torch warns of memory that it must not write
    if whole.dtype.name == "bfloat16":
        return torch.from_numpy(whole.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(whole)

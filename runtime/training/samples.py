"""What training reads: samples in another order each epoch, each process its own part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prunec.runtime.training.batch import Batch, Shard
from prunec.runtime.training.settings import TrainSettings


class Samples(Protocol):
    """Data that can be read many times.

    size: how many samples there are, None where nobody knows before they were read.
    """

    @property
    def size(self) -> int | None:
        """Samples in all processes together."""
        ...

    def batches(self, shard: Shard) -> int | None:
        """How many batches an epoch has; the same for all processes. None: unknown."""
        ...

    def epoch(self, number: int, shard: Shard, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, without the first `skip`; on the CPU.

        The same arguments give the same batches. Raises DataError.
        """
        ...


def steps_of_epoch(data: Samples, settings: TrainSettings, shard: Shard) -> int | None:
    """Optimizer steps of one pass over the data; None where nobody knows."""
    batches = data.batches(shard)
    return None if batches is None else max(1, batches // settings.accumulate)

"""What training reads: samples in another order each epoch, each process its own part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prunec.runtime.training.batch import Batch, Shard


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

"""Samples whose labels fit the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prunec.compiler.errors import DataError
from prunec.runtime.training.batch import Batch, Shard
from prunec.runtime.training.samples import Samples


@dataclass(frozen=True, slots=True)
class CheckedLabels:
    """The same samples; a label that is no class is an error before a GPU trips over it."""

    samples: Samples
    classes: int
    source: str

    @property
    def size(self) -> int | None:
        """Samples in all processes together."""
        return self.samples.size

    def batches(self, shard: Shard) -> int | None:
        """Batches of an epoch, None: unknown."""
        return self.samples.batches(shard)

    def epoch(self, number: int, shard: Shard, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch without the first `skip`. Raises DataError."""
        for batch in self.samples.epoch(number, shard, skip):
            labels = batch.labels
            if labels is None:
                raise DataError(f"{self.source}: some samples have labels, some have none")
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.classes:
                raise DataError(
                    f"{self.source}: labels lie in [{low}, {high}], "
                    f"the model has {self.classes} classes"
                )
            yield batch

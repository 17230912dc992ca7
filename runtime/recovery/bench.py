"""The dense and the pruned model side by side on calibration data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence, Set

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import DataError, UsageError
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.partition import Partition
from prunec.compiler.recovery import Array, Batch, Mask
from prunec.passes.insert import values_by_name
from prunec.passes.recovery.storage import store, tensor_of
from prunec.runtime.inputs import Feeds
from prunec.runtime.recovery.samples import Samples
from prunec.runtime.recovery.walk import Walk
from prunec.runtime.subject import Subject


class NotFiniteError(DataError):
    """A model gives NaN or infinite numbers, to which nothing can be fitted."""


class TwoModels:
    """See `prunec.compiler.recovery.Bench`, whose contract this keeps."""

    def __init__(
        self,
        subject: Subject,
        pruned: ir.Model,
        mask: Mask,
        samples: Samples | None,
        writable: Set[str],
        *,
        limit: int,
        blocks: Mapping[str, Partition] | None = None,
        provider: str = "cpu",
        threads: int = 1,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.progress = progress
        self.subject, self.mask, self._samples = subject, mask, samples
        self.pruned = pruned
        self.blocks: Mapping[str, Partition] = blocks or {}
        self._writable = writable
        self.written: set[str] = set()
        self._values = values_by_name(pruned.graph)
        half = limit // 2
        self._dense = Walk(subject.model, self._feeds, half, provider, threads)
        self._slim = Walk(pruned, self._feeds, half, provider, threads)
        self._cuts: dict[str, list[tuple[int, Array]]] = {}

    @property
    def samples(self) -> Samples:
        """The data. Raises UsageError where there is none."""
        if self._samples is None:
            raise UsageError("this recovery needs data; give it with --data")
        return self._samples

    @property
    def dense(self) -> ir.Model:
        """The dense model."""
        return self.subject.model

    @property
    def facts(self) -> Facts:
        """Of the dense model."""
        return self.subject.facts

    @property
    def graph(self) -> Hypergraph:
        """Of the dense model."""
        return self.subject.graph

    def draw(self, most: int) -> None:
        """At most so many samples, spread evenly."""
        self.samples.draw(most)

    def mirror(self) -> None:
        """Every image twice, once turned left to right. Raises DataError."""
        self.samples.mirror()

    def writable(self, name: str) -> bool:
        """Whether a stored tensor can be changed where the model is written."""
        return name in self._writable

    def expect(self, dense: Sequence[str], pruned: Sequence[str]) -> None:
        """Values that will be asked for."""
        self._dense.later |= set(dense)
        self._slim.later |= set(pruned)

    @property
    def samples_to_fit(self) -> int:
        """How many samples are not held out."""
        return self.samples.total - self.samples.judging

    def run(
        self, dense: Sequence[str], pruned: Sequence[str], changing: Sequence[str] = ()
    ) -> Iterator[Batch]:
        """Values of both models. Raises NotFiniteError."""
        pairs = itertools.zip_longest(
            self._dense.run(dense) if dense else itertools.repeat({}, self.samples.batches),
            self._slim.run(pruned, changing)
            if pruned
            else itertools.repeat({}, self.samples.batches),
        )
        for number, (whole, slim) in enumerate(pairs):
            assert whole is not None and slim is not None, "both models see the same batches"
            cut = {name: self._cut(name, array) for name, array in whole.items()}
            for name, array in (*cut.items(), *slim.items()):
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    raise NotFiniteError(
                        f"{name} is not finite on batch {number} of the calibration data: "
                        "the model overflows there"
                    )
            yield Batch(number, self.samples.size, self.samples.held(number), cut, dict(slim))

    def contents(self, name: str) -> Array:
        """A stored tensor of the pruned model."""
        tensor = tensor_of(self._values[name])
        assert tensor is not None, name
        return tensor.numpy()

    def write(self, weights: Mapping[str, Array]) -> None:
        """Replace stored tensors of the pruned model."""
        for name, array in weights.items():
            store(self._values[name], array)
            self.written.add(name)
        self._slim.forget(weights)

    def _feeds(self) -> Iterator[Feeds]:
        return self.samples()

    def _cut(self, name: str, array: Array) -> Array:
        """The channels that are kept."""
        if name not in self._cuts:
            self._cuts[name] = [
                (axis, np.flatnonzero(self.mask[groups]))
                for axis in range(array.ndim)
                for groups in [self.graph.axes.get((name, axis))]
                if groups is not None and not self.mask[groups].all()
            ]
        for axis, kept in self._cuts[name]:
            array = np.take(array, kept, axis)
        return array

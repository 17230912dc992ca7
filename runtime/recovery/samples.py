"""Calibration data in batches, some of which judge what was fitted to the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import DataError
from prunec.runtime.data import DataSpec, load_data
from prunec.runtime.inputs import Feeds, model_inputs

HELD_EVERY = 5
BATCH = 8  # small, so that many of them can be held out; large enough to keep a core busy


class TooFewError(DataError):
    """The data holds too few samples to judge a recovery."""


class Samples:
    """Calibration data in batches, of which every fifth judges.

    judged: whether any must; then there are at least two batches. mirrored: every batch comes
    twice, once with its images turned left to right. Raises DataError.
    """

    def __init__(self, spec: DataSpec, model: ir.Model, judged: bool = True) -> None:
        inputs = model_inputs(model)
        sizes = [len(next(iter(feeds.values()))) for feeds in load_data(_by(spec, BATCH), inputs)]
        self.total = sum(sizes)
        self.size = max(1, min(BATCH, self.total // (2 * HELD_EVERY)))
        data = load_data(_by(spec, self.size), inputs)
        self.size, self._data = data.batch, data
        self._sizes = [len(next(iter(feeds.values()))) for feeds in data]
        self._images = [x.name for x in inputs if len(x.shape or ()) == 4 and x.dtype.kind == "f"]
        self._source = spec.path
        self._chosen = np.arange(len(self._sizes))
        self._judged = judged
        self.mirrored = False
        self._require()

    def _require(self) -> None:
        if self._judged and len(self._sizes) < 2:
            raise TooFewError(
                f"{self._source}: recovery needs at least two batches, one to fit and one to "
                f"judge; the data holds {self.total} samples, the model takes {self.size} at once"
            )

    @property
    def batches(self) -> int:
        """How many there are, mirrored ones counted."""
        return len(self._sizes) * (1 + self.mirrored)

    @property
    def judging(self) -> int:
        """How many samples are in batches that judge, each counted once."""
        return sum(n for k, n in enumerate(self._sizes) if self.held(k * (1 + self.mirrored)))

    def draw(self, most: int) -> None:
        """Take whole batches of at most so many samples, or two, spread evenly over the data.

        Files are often sorted by class: the first ones would all be alike.
        """
        if self.total <= most:
            return
        wanted = max(most // self.size, 2)
        self._chosen = np.unique(np.linspace(0, len(self._sizes) - 1, wanted).astype(np.int64))
        self._sizes = [self._sizes[k] for k in self._chosen.tolist()]
        self.total = sum(self._sizes)
        self._require()

    def mirror(self) -> None:
        """Let every batch come twice. Raises DataError where no input is an image."""
        if not self._images:
            raise DataError(f"{self._source}: mirror=true is for images, (batch, channels, h, w)")
        self.mirrored = True

    def held(self, number: int) -> bool:
        """Whether this batch judges: every fifth, the last of fewer; a mirrored one as its twin."""
        every = min(HELD_EVERY, len(self._sizes))
        return number // (1 + self.mirrored) % every == every - 1

    def __call__(self) -> Iterator[Feeds]:
        """All batches, the same with every call."""
        chosen = set(self._chosen.tolist())
        for number, feeds in enumerate(self._data):
            if number not in chosen:
                continue
            yield feeds
            if self.mirrored:
                turned = {n: np.ascontiguousarray(feeds[n][..., ::-1]) for n in self._images}
                yield {**feeds, **turned}


def _by(spec: DataSpec, size: int) -> DataSpec:
    return replace(spec, batch=size)

"""Predicted against measured latency of random slim models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prunec.compiler.latency import Quality, quality
from prunec.compiler.problem import IntArray
from prunec.runtime.latency.design import random_counts
from prunec.runtime.latency.kernels import Where
from prunec.runtime.latency.predict import Predictor
from prunec.runtime.latency.timing import time_all
from prunec.runtime.subject import Subject

GROUP = 5
PASSES = 2
UNSEEN = 1_000_003  # keeps the random models apart from the measured ones


@dataclass(frozen=True, slots=True)
class Validation:
    """Nanoseconds per slim model. quality: of the predictions; worst: the largest |p - m| / m."""

    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    quality: Quality
    bias: float
    worst: float

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def validate(
    subject: Subject,
    predictor: Predictor,
    levels: Sequence[IntArray],
    where: Where,
    models: int,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Validation:
    """Build slim models with uniformly random levels and time them as `prunec bench` does.

    A few models at a time, interleaved, and all of them `PASSES` times: of the samples the same
    part counts as of the kernels, and the faster pass.
    """
    drawn = random_counts(levels, models, seed + UNSEEN)
    times = np.full((PASSES, len(drawn)), np.inf)
    for number in range(PASSES):
        for start in range(0, len(drawn), GROUP):
            own = slice(start, start + GROUP)
            times[number, own] = time_all(subject, drawn[own], where)
            progress(number * len(drawn) + min(start + GROUP, len(drawn)), PASSES * len(drawn))
    predicted = np.array([predictor(counts) for counts in drawn])
    true = times.min(axis=0)
    return Validation(
        predicted=tuple(predicted.tolist()),
        measured=tuple(true.tolist()),
        quality=quality(predicted, true),
        bias=float(np.mean(predicted / true - 1)),
        worst=float(np.max(np.abs(predicted / true - 1))),
    )

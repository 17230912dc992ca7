"""When masks are set during training: layer by layer, all at once, or along a ramp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ORDERS = ("top", "bottom", "shuffle")


@dataclass(frozen=True, slots=True)
class Timetable:
    """When one layer measures and masks; all in training steps.

    start: the first step at which it measures. interval: steps between rises of the sparsity, of
    which there are `repetition`; rampup: the first rise comes one interval after the start.
    refresh: steps between masks, each made anew, so that channels may come back. stop: steps after
    the start from which on the mask stays. averaged: the statistic is a running average (masks
    begin at the second step), else that of the step alone.
    """

    start: int
    interval: int
    repetition: int = 1
    rampup: bool = False
    refresh: int = 1
    stop: int = 1
    averaged: bool = True

    @property
    def rises(self) -> tuple[int, ...]:
        """The steps at which the sparsity rises."""
        first = self.start + self.interval * self.rampup
        return tuple(first + self.interval * i for i in range(self.repetition))

    @property
    def end(self) -> int:
        """The last step at which anything changes."""
        return max(self.start + self.stop, self.rises[-1])

    def sparsity(self, step: int, target: float) -> float | None:
        """The sparsity in force at a step, None before there is one; cubic (Zhu, Gupta 2017)."""
        past = [n for n in self.rises if n <= step]
        if not past:
            return None
        lead = 0 if self.rampup else self.interval
        progress = (past[-1] - self.start + lead) / (self.interval * self.repetition)
        return target * (1 - (1 - progress) ** 3)

    def measures(self, step: int) -> bool:
        """Whether the statistic takes in this step."""
        return 0 <= step - self.start < self.stop or (step >= self.start and not self.averaged)

    def masks(self, step: int) -> bool:
        """Whether the mask is made anew at this step."""
        since = step - self.start
        due = since % self.refresh == 0 and since <= self.stop
        return due and (since > 0 or (since == 0 and not self.averaged))


def layerwise(
    layers: int,
    start: int,
    interval: int,
    refresh: int = 1,
    order: str = "top",
    seed: int = 0,
) -> tuple[Timetable, ...]:
    """One layer after the other, each on inputs that the ones before have masked already.

    Layer k of the order measures for `interval` steps from ``start + k (interval + 1)`` on, at its
    full sparsity. order: top (from the input), bottom, or shuffle. Returns one per layer, in the
    order of the layers.
    """
    place = _places(layers, order, seed)
    return tuple(
        Timetable(start + k * (interval + 1), interval, refresh=refresh, stop=interval)
        for k in place
    )


def one_shot(layers: int, start: int, interval: int) -> tuple[Timetable, ...]:
    """All layers at once, when `layerwise` would be done, by what the unmasked network shows."""
    end = start + layers * (interval + 1)
    own = Timetable(end - interval, interval, refresh=interval, stop=interval)
    return (own,) * layers


def stepwise(
    layers: int, start: int, interval: int, repetition: int = 5, rampup: bool = False
) -> tuple[Timetable, ...]:
    """All layers together, sparser at each of `repetition` steps, by what a step alone shows."""
    stop = interval * (repetition - (not rampup))
    # No rise falls between two masks: both come every `interval` steps.
    own = Timetable(start, interval, repetition, rampup, max(interval, 1), stop, averaged=False)
    return (own,) * layers


def _places(layers: int, order: str, seed: int) -> Sequence[int]:
    """The turn of each layer."""
    assert order in ORDERS, order
    if order == "shuffle":
        return [int(k) for k in np.random.default_rng(seed).permutation(layers)]
    return range(layers) if order == "top" else range(layers - 1, -1, -1)

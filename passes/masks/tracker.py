"""The state of one layer's mask during training."""

from __future__ import annotations

import numpy as np

from prunec.compiler.problem import FloatArray
from prunec.passes.masks.rule import Mask, mask_of, published_mask
from prunec.passes.masks.schedule import Timetable


class Tracker:
    """Statistic and mask of one layer of `size` channels, step by step.

    published: the mask rule as published, see `published_mask`. floor: how many channels stay at
    least.
    """

    def __init__(
        self,
        size: int,
        when: Timetable,
        target: float,
        *,
        published: bool = False,
        floor: int = 1,
    ) -> None:
        self.when, self.target = when, target
        self.published, self.floor = published, floor
        self.statistic: FloatArray = np.zeros(size)
        self.mask: Mask = np.ones(size, bool)

    def wants(self, step: int) -> bool:
        """Whether `advance` would read the importance of this step."""
        return self.when.measures(step) or self.when.masks(step)

    def advance(self, step: int, importance: FloatArray) -> Mask:
        """The mask from this step on. importance: (n,), what this step shows, before the mask."""
        if self.when.measures(step):
            t = step - self.when.start if self.when.averaged else 0
            self.statistic = (t * self.statistic + importance) / (t + 1)
        sparsity = self.when.sparsity(step, self.target)
        if sparsity is None or not self.when.masks(step):
            return self.mask
        if self.published:
            self.mask = published_mask(self.statistic, sparsity)
        else:
            self.mask = mask_of(self.statistic, sparsity, least=self.floor)
        return self.mask


def importance_of(size: FloatArray, nonzero: FloatArray, lowest: float, *, l0: bool) -> FloatArray:
    """(n,) what a step shows of channels: mean |x|, or the share of non-zeros behind a ReLU.

    size: (n,) mean of |x|. nonzero: (n,) share of ``x != 0``. lowest: the smallest element.
    """
    return nonzero if l0 and lowest == 0 else size

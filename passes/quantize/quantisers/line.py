"""Line: asymmetric integers, from the smallest value to the largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.quantisation import SMALLEST, FloatArray, Grid
from prunec.passes.quantize.quantisers.scales import scales


@dataclass(frozen=True, slots=True)
class Line:
    """Asymmetric: ``s = (ub - lb) / (2^b - 1)``, the integer of 0 rounded.

    A range that does not hold 0 is widened to it: padding and ReLU make zeros, and they stay exact.
    legacy_step: ``s = (ub - lb) / 2^b`` as published, whose top code is ``ub - s``. signed:
    integers around 0 instead of from 0 on, of the same values. Source: mdpi2022, algorithm 2,
    `AdaptiveQuantizer`, as it evaluates (training there has a float zero point).
    """

    name: ClassVar[str] = "line"
    legacy_step: bool = False
    signed: bool = False

    def __call__(
        self, low: FloatArray, high: FloatArray, bits: int, axis: int | None = None
    ) -> Grid:
        """The grid for values between low and high."""
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
        steps = (high - low) / (2**bits - (not self.legacy_step))
        scale = scales(steps)
        first = -(2 ** (bits - 1)) if self.signed else 0
        places = np.rint(np.where(steps >= SMALLEST, -low / scale, 0.0))
        zero = np.clip(places, 0, 2**bits - 1).astype(np.int64) + first
        return Grid(bits, self.signed, scale, zero, axis)

    def alone(self) -> Line:
        """The same: channels have nothing to do with one another."""
        return self

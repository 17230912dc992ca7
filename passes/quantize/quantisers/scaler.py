"""Scaler: symmetric integers, zero is 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.quantisation import FloatArray, Grid
from prunec.passes.quantize.quantisers.scales import scales


@dataclass(frozen=True, slots=True)
class Scaler:
    """Symmetric: ``s = max|x| / (2^(b-1) - 1)``, zero is 0.

    legacy_step: ``s = max|x| / 2^(b-1)`` as published, which saturates the largest positive value
    by half a step or more. unsigned: a range that holds nothing negative takes ``0 ... 2^b - 1``.
    Source: mdpi2022, algorithm 3, `ScalerQuantizer`.
    """

    name: ClassVar[str] = "scaler"
    legacy_step: bool = False
    unsigned: bool = False

    def __call__(
        self, low: FloatArray, high: FloatArray, bits: int, axis: int | None = None
    ) -> Grid:
        """The grid for values between low and high."""
        signed = not (self.unsigned and (low >= 0).all())
        largest = np.maximum(np.abs(low), np.abs(high))
        steps = 2 ** (bits - signed) - (not self.legacy_step)
        zero = np.zeros(largest.shape, np.int64)
        return Grid(bits, signed, scales(largest / steps), zero, axis)

    def alone(self) -> Scaler:
        """The same: channels have nothing to do with one another."""
        return self

"""Power of two: symmetric integers whose scale is a shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.errors import UsageError
from prunec.compiler.quantisation import SMALLEST, FloatArray, Grid
from prunec.compiler.spec import suggest
from prunec.passes.quantize.quantisers.scaler import Scaler

EXPONENTS = ("cover", "nearest")


@dataclass(frozen=True, slots=True)
class PowerOfTwo:
    """Symmetric with ``s = 2^-d``: scaling is a shift.

    exponent: cover, the smallest power that holds the range; nearest, ``d = round(log2(1 / s))`` as
    published, s of `Scaler` with its legacy step, which may saturate up to 3 in 10 of the range.
    unsigned: as of `Scaler`. Codes are rounded; that the published code cuts them off instead
    (`truncated`) is a fault of it. Source: mdpi2022, `DecimalQuantizer`.
    """

    name: ClassVar[str] = "power-of-two"
    exponent: str = "cover"
    unsigned: bool = False

    def __post_init__(self) -> None:
        if self.exponent not in EXPONENTS:
            raise UsageError(
                f"quantiser 'power-of-two': unknown exponent {self.exponent!r}"
                f"{suggest(self.exponent, EXPONENTS)}"
            )

    def __call__(
        self, low: FloatArray, high: FloatArray, bits: int, axis: int | None = None
    ) -> Grid:
        """The grid for values between low and high."""
        nearest = self.exponent == "nearest"
        grid = Scaler(legacy_step=nearest, unsigned=self.unsigned)(low, high, bits, axis)
        logs = np.log2(grid.scale.astype(np.float64))
        powers = np.exp2(np.rint(logs) if nearest else np.ceil(logs))
        return Grid(bits, grid.signed, np.maximum(powers, SMALLEST), grid.zero, axis)

    def alone(self) -> PowerOfTwo:
        """The same: channels have nothing to do with one another."""
        return self

"""Bias: the mean of what every layer gives is put right, its weights stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from prunec.compiler.errors import UsageError
from prunec.compiler.recovery import Bench, Recovered
from prunec.passes.recovery.places import POSITIONS
from prunec.passes.recovery.ridge import FLAT
from prunec.passes.recovery.sweep import Recipe, sweep


@dataclass(frozen=True, slots=True)
class Bias:
    """Correct the mean of each channel, in a bias or in the norm that follows.

    positions: rows per sample at most, drawn by `seed`. residual: branches are corrected so that
    the sum that they feed has the right mean. samples: at most so many, spread evenly over the
    data.
    """

    name: ClassVar[str] = "bias"
    needs_data: ClassVar[bool] = True
    positions: int = POSITIONS
    residual: bool = True
    seed: int = 0
    samples: int = 1024

    def __post_init__(self) -> None:
        for option, least in (("positions", 1), ("samples", 2)):
            if getattr(self, option) < least:
                raise UsageError(f"recovery 'bias': {option} must be at least {least}")

    def __call__(self, bench: Bench) -> Recovered:
        """From the inputs to the outputs."""
        bench.draw(self.samples)
        how = Recipe(
            positions=self.positions,
            penalties=(FLAT,),
            residual=self.residual,
            clipped=0,
            columns=0,
            refit=True,
            seed=self.seed,
        )
        return sweep(bench, how)

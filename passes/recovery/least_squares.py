"""Least squares: every weight is solved anew for what the dense layer gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from prunec.compiler.errors import UsageError
from prunec.compiler.recovery import Bench, Recovered
from prunec.passes.recovery.places import POSITIONS
from prunec.passes.recovery.ridge import FLAT
from prunec.passes.recovery.sweep import Recipe, sweep

LARGEST = 6000


@dataclass(frozen=True, slots=True)
class LeastSquares:
    """Re-solve weights layer by layer against the dense activations, by ridge regression.

    positions: rows per sample at most, drawn by `seed` where a layer has more; more of them where
    samples are few (see `Sampling`). ridge: the penalty relative to the mean square of an input;
    none chooses it per output on held-out samples. residual: branches are solved against the sum
    that they feed, not against themselves. clipped: rounds in which what a Relu or a Clip lets
    through is what counts. columns: weights with more inputs per output are only rescaled per
    output. refit: once penalties are known, held-out samples are fitted as well. samples: at most
    so many, spread evenly over the data. mirror: every image counts twice, once turned left to
    right.
    """

    name: ClassVar[str] = "least-squares"
    needs_data: ClassVar[bool] = True
    positions: int = POSITIONS
    ridge: float | None = None
    residual: bool = True
    clipped: int = 4
    columns: int = LARGEST
    refit: bool = True
    seed: int = 0
    samples: int = 1024
    mirror: bool = False

    def __post_init__(self) -> None:
        for option, least in (("positions", 1), ("columns", 1), ("clipped", 0), ("samples", 2)):
            if getattr(self, option) < least:
                raise UsageError(f"recovery 'least-squares': {option} must be at least {least}")
        if self.ridge is not None and not 0 < self.ridge < FLAT:
            raise UsageError(f"recovery 'least-squares': ridge must be above 0, not {self.ridge}")

    def __call__(self, bench: Bench) -> Recovered:
        """Solve from the inputs to the outputs."""
        bench.draw(self.samples)
        if self.mirror:
            bench.mirror()
        how = Recipe(
            positions=self.positions,
            penalties=() if self.ridge is None else (self.ridge,),
            residual=self.residual,
            clipped=self.clipped,
            columns=self.columns,
            refit=self.refit,
            seed=self.seed,
        )
        return sweep(bench, how)

"""Recovery: change of the remaining weights after slicing; one file and one row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunec.passes.recovery.batchnorm import BatchNorm
from prunec.passes.recovery.bias import Bias
from prunec.passes.recovery.least_squares import LeastSquares

RECOVERIES: Mapping[str, type[Any]] = {
    "batchnorm": BatchNorm,
    "bias": Bias,
    "least-squares": LeastSquares,
}

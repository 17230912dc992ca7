"""Scales that float32 can hold, and none of them 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.quantisation import SMALLEST, FloatArray

UNUSED = 1.0  # of a range that holds 0 alone: every scale gives code 0


def scales(steps: FloatArray) -> NDArray[np.float32]:
    """(n,) steps as scales; `UNUSED` where a step is 0 or too small for float32."""
    return np.where(steps >= SMALLEST, steps, UNUSED).astype(np.float32)

"""What a calibration run says about activation channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.hypergraph import Axis

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Stats:
    """Statistics per index of activation axes, averaged over samples and all other axes.

    mean_abs: axis -> (n,) mean of ``|a|``. nonzero: axis -> (n,) share of elements with
    ``a != 0``, in [0, 1]. samples: how many samples were seen.
    """

    mean_abs: Mapping[Axis, FloatArray]
    nonzero: Mapping[Axis, FloatArray]
    samples: int

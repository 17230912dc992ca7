"""What is known of every value before coupling: shapes, element types and constant contents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """Products of shape inference with every symbolic dimension bound to a number.

    shapes: value name -> shape; absent where it is unknown. dtypes: value name -> numpy dtype.
    constants: value name -> contents, for small tensors that do not depend on the input data
    (shape arithmetic is evaluated). bound: symbolic dimension -> the number used for it.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, np.dtype[Any]]
    constants: Mapping[str, NDArray[Any]]
    bound: Mapping[str, int]

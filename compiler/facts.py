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
    (shape arithmetic is evaluated). bound: symbolic dimension -> the number used for it; a
    dimension that depends on the data (what NonZero counts) is `value:axis`. assumed: names of
    constants whose contents come from such a dimension: sizes, not positions to rely on.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, np.dtype[Any]]
    constants: Mapping[str, NDArray[Any]]
    bound: Mapping[str, int]
    assumed: frozenset[str] = frozenset()

    def certain(self) -> Mapping[str, NDArray[Any]]:
        """Constants that hold whatever the data is."""
        if not self.assumed:
            return self.constants
        return {name: a for name, a in self.constants.items() if name not in self.assumed}

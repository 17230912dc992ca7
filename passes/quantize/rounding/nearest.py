"""Nearest: every weight by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.quantisation import IntArray, Products


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest integer, half to even."""

    name: ClassVar[str] = "nearest"
    needs_data: ClassVar[bool] = False

    def __call__(self, products: Products) -> IntArray:
        """(G, D, M)."""
        p = products
        return np.clip(np.rint(p.matrix / p.scale) + p.zero, p.low, p.high).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Truncate:
    """Cut off towards zero, as the published power-of-two quantiser does.

    For comparison: the error is twice that of `nearest`. Source: mdpi2022, `DecimalQuantizer`.
    """

    name: ClassVar[str] = "truncate"
    needs_data: ClassVar[bool] = False

    def __call__(self, products: Products) -> IntArray:
        """(G, D, M)."""
        p = products
        return np.clip(np.trunc(p.matrix / p.scale) + p.zero, p.low, p.high).astype(np.int64)

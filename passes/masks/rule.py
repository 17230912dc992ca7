"""Which channels a sparsity leaves (mdpi2022, `MagnitudePruningCallback`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.problem import FloatArray

Mask = NDArray[np.bool_]


def mask_of(importance: FloatArray, sparsity: float, *, least: int = 1) -> Mask:
    """(n,) True = stays: all but the ``floor(sparsity n)`` least important.

    Of equals the first stay, so that the count is exact; `least` stay at any sparsity.
    """
    # The product of a share and a size may fall short of the whole number that is meant.
    leave = min(int(np.floor(sparsity * len(importance) + 1e-9)), len(importance) - least)
    mask = np.ones(len(importance), bool)
    mask[np.argsort(-importance, kind="stable")[len(importance) - max(leave, 0) :]] = False
    return mask


def published_mask(importance: FloatArray, sparsity: float) -> Mask:
    """The rule as published: all that reach the entry ``max(int(sparsity n - 1), 0) + 1``.

    Of the sorted importances, that is. One leaves at sparsity 0, equals all stay, and at 1, or of a
    single channel, there is no such entry: then the most important stay.
    """
    ordered = np.sort(importance)
    position = max(int(sparsity * len(importance) - 1), 0) + 1
    # Published, IndexError.
    return np.asarray(importance >= ordered[min(position, len(ordered) - 1)])

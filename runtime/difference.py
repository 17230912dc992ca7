"""How far two outputs are apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.errors import PrunecError


class Failed(PrunecError):
    """A check that does not hold, with the evidence."""


def numeric(a: Any, b: Any, name: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Pairs of arrays of numbers in two outputs, sequences flattened; strings are left out.

    Raises Failed where their shapes differ.
    """
    if isinstance(a, list):  # a sequence output
        for x, y in zip(a, b, strict=True):
            yield from numeric(x, y, name)
        return
    if not isinstance(a, np.ndarray) or a.dtype.kind not in "fiub":
        return
    if a.shape != b.shape:
        raise Failed(f"output {name} has shape {b.shape} instead of {a.shape}")
    yield a, b


def relative(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest difference relative to the largest of `a`; infinite where only one is finite."""
    if not a.size:
        return 0.0
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    if same.all():
        return 0.0
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite[~same].all():
        return float("inf")
    return float(np.abs(x - y)[~same].max() / max(np.abs(x[finite]).max(), 1e-30))

"""What a cost is counted from: sizes of axes as linear forms in kept counts."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.compiler.cost import Linear


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A parameter: its shape as linear forms, bytes per item, elements per item."""

    shape: tuple[Linear, ...]
    itemsize: float
    packing: int = 1


@dataclass(frozen=True, slots=True)
class Ledger:
    """multiplications: (scale, axes) per op that multiplies and sums. parameters: weights."""

    multiplications: tuple[tuple[int, tuple[Linear, ...]], ...]
    parameters: tuple[StoredTensor, ...]

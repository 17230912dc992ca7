"""What a cost is counted from: sizes of axes as linear forms in kept counts."""

from __future__ import annotations

from dataclasses import dataclass

from prunec.compiler.cost import Linear


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A parameter: its shape as linear forms, bytes per item, elements per item.

    A part of these where the shape has the count of a dial as another axis.
    """

    shape: tuple[Linear, ...]
    itemsize: float
    packing: float = 1


@dataclass(frozen=True, slots=True)
class Ledger:
    """multiplications: (scale, axes) per op that multiplies and sums. parameters: weights.

    multiplied_by: the node of each multiplication. buffers: kinds of activations, in bytes per
    element. computed: (buffer, how often) for what nodes compute. moments: (buffer, how many are
    live) whenever more memory is taken.
    """

    multiplications: tuple[tuple[float, tuple[Linear, ...]], ...]
    parameters: tuple[StoredTensor, ...]
    multiplied_by: tuple[str, ...] = ()
    buffers: tuple[StoredTensor, ...] = ()
    computed: tuple[tuple[int, int], ...] = ()
    moments: tuple[tuple[tuple[int, int], ...], ...] = ()

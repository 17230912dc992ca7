"""Ascending positions as short text, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LARGEST_POSITION = 10**8


def ranges(positions: Sequence[int]) -> str:
    """Ascending integers as text.

    >>> ranges([0, 1, 2, 5])
    '0-2,5'
    """
    if not len(positions):
        return ""
    array = np.asarray(positions, np.int64)
    breaks = np.flatnonzero(np.diff(array) != 1)
    starts = array[np.concatenate([[0], breaks + 1])].tolist()
    ends = array[np.concatenate([breaks, [len(array) - 1]])].tolist()
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def positions(text: str) -> tuple[int, ...]:
    """Inverse of `ranges`. Raises ValueError unless strictly ascending and >= 0.

    >>> positions("0-2,5")
    (0, 1, 2, 5)
    """
    out: list[int] = []
    for item in filter(None, text.split(",")):
        first, dash, last = item.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"{item!r} is not a position or a range such as '0-11'")
        a, b = int(first), int(last if dash else first)
        if b < a or (out and a <= out[-1]):
            raise ValueError(f"{item!r} is not ascending")
        if b >= LARGEST_POSITION:
            raise ValueError(f"{item!r} is beyond any axis")
        out.extend(range(a, b + 1))
    return tuple(out)

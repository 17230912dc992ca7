"""Matrices with known answers (SEEDS.md 2.5), and every way to block a small one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

# G1: 8 outputs of 8 inputs, 321 in all.
R8 = np.array(
    [
        [5, 7, 6, 5, 4, 6, 4, 9],
        [10, 4, 8, 5, 6, 9, 1, 1],
        [0, 8, 8, 9, 10, 8, 5, 8],
        [1, 6, 1, 9, 5, 4, 3, 8],
        [5, 6, 0, 6, 6, 6, 9, 7],
        [4, 4, 7, 1, 7, 7, 2, 1],
        [3, 4, 6, 4, 10, 1, 2, 2],
        [7, 3, 5, 2, 2, 1, 7, 1],
    ],
    np.float64,
)
# G2: three planted blocks, 127 in all.
C6 = np.array(
    [
        [9, 1, 8, 1, 2, 1],
        [1, 7, 1, 6, 1, 2],
        [2, 1, 1, 1, 9, 8],
        [8, 2, 9, 1, 1, 1],
        [1, 8, 2, 9, 1, 1],
        [1, 1, 2, 1, 7, 9],
    ],
    np.float64,
)


def partitions(members: tuple[int, ...], width: int) -> Iterator[list[tuple[int, ...]]]:
    """Every partition into unordered sets of `width`."""
    if not members:
        yield []
        return
    for others in combinations(members[1:], width - 1):
        own = (members[0], *others)
        rest = tuple(m for m in members if m not in own)
        yield from ([own, *more] for more in partitions(rest, width))

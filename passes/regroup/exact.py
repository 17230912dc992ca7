"""The best blocks of small matrices, by looking at all of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import factorial

import numpy as np

from prunec.passes.regroup.assign import placed
from prunec.passes.regroup.blocks import FloatArray, IntArray, indicator

SPLITS = 6500  # in two halves, all at once: 16 channels
PARTITIONS = 1000  # in more groups, one assignment each


def solvable(size: int, groups: int) -> bool:
    """Whether all partitions of so many channels can be looked at in little time."""
    return number_of_partitions(size, groups) <= (SPLITS if groups == 2 else PARTITIONS)


def number_of_partitions(size: int, groups: int) -> int:
    """How often `size` things fall into equal groups without a name.

    >>> number_of_partitions(8, 2), number_of_partitions(8, 4)
    (35, 105)
    """
    orders: int = factorial(size // groups) ** groups * factorial(groups)
    return factorial(size) // orders


def exact_blocks(score: FloatArray, groups: int) -> tuple[IntArray, IntArray]:
    """(F,) and (C,) groups that keep most.

    The smaller side of the matrix must be `solvable`, or have as many channels as there are groups.
    """
    if len(score) < score.shape[1]:
        columns, rows = exact_blocks(score.T, groups)
        return rows, columns
    if groups == 2:
        return _halves(score)
    capacity = np.full(groups, len(score) // groups)
    if groups == score.shape[1]:
        return placed(score, capacity), np.arange(groups)
    best, found = -np.inf, None
    for columns in _partitions(score.shape[1], groups):
        gains = score @ indicator(columns, groups)
        rows = placed(gains, capacity)
        total = float(gains[np.arange(len(rows)), rows].sum())
        if total > best:
            best, found = total, (rows, columns)
    assert found is not None
    return found


def _halves(score: FloatArray) -> tuple[IntArray, IntArray]:
    """The best of all splits of the columns; rows follow by sorting."""
    rows, columns = score.shape
    # The first column is in the first half: the other splits are these with names exchanged.
    chosen = np.array([(0, *c) for c in combinations(range(1, columns), columns // 2 - 1)])
    sides = np.full((len(chosen), columns), -1.0)
    np.put_along_axis(sides, chosen, 1.0, 1)
    leans = score @ sides.T  # (F, splits): how much more a row has in the first half
    halves = np.partition(leans, rows // 2, axis=0)
    best = int(np.argmax(halves[rows // 2 :].sum(0) - halves[: rows // 2].sum(0)))
    ids = np.ones(rows, np.int64)
    ids[np.argsort(-leans[:, best], kind="stable")[: rows // 2]] = 0
    return ids, np.asarray((1 - sides[best]) / 2, np.int64)


def _partitions(size: int, groups: int) -> Iterator[IntArray]:
    """(size,) group ids of every partition into equal groups, each once."""
    ids = np.full(size, -1, np.int64)

    def fill(group: int) -> Iterator[IntArray]:
        if group == groups:
            yield ids.copy()
            return
        free = np.flatnonzero(ids < 0)
        for others in combinations(free[1:].tolist(), size // groups - 1):
            chosen = [free[0], *others]
            ids[chosen] = group
            yield from fill(group + 1)
            ids[chosen] = -1

    return fill(0)

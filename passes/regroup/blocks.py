"""A score matrix in G blocks: sums, what a partition keeps, numbering."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.errors import UsageError
from prunec.compiler.partition import Partition

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Permutation(Protocol):
    """A way to find the blocks of a weight: a row of PERMUTATIONS."""

    @property
    def name(self) -> str:
        """What options call it."""
        ...

    def __call__(self, score: FloatArray, groups: int) -> Partition:
        """score: (F, C), finite, what each (output, input) pair is worth; groups divides both."""
        ...


def require_blocks(score: FloatArray, groups: int) -> FloatArray:
    """The matrix in float64. Raises UsageError unless it is finite and falls into equal groups."""
    score = np.asarray(score, np.float64)
    if score.ndim != 2 or groups < 1 or any(n == 0 or n % groups for n in score.shape):
        raise UsageError(
            f"a weight of {' x '.join(map(str, score.shape))} (outputs x inputs) has no {groups} "
            "equal groups; take a common divisor of both"
        )
    if not np.isfinite(score).all():
        raise UsageError("scores of a weight hold NaN or infinite numbers; repair the weight")
    return score


def contiguous(size: int, groups: int) -> IntArray:
    """(size,) group of each position where the blocks lie one behind the other."""
    return np.repeat(np.arange(groups, dtype=np.int64), size // groups)


def indicator(ids: IntArray, groups: int) -> FloatArray:
    """(n, G) 1 where a position is in a group; positions of no group (-1) have a row of zeros."""
    return np.asarray(ids[:, None] == np.arange(groups), np.float64)


def kept(score: FloatArray, partition: Partition) -> float:
    """What the blocks keep of the sum of the matrix."""
    return kept_sum(score, np.array(partition.outputs), np.array(partition.inputs))


def kept_sum(score: FloatArray, rows: IntArray, columns: IntArray) -> float:
    """The sum over pairs of a row and a column of the same group."""
    return float(score[rows[:, None] == columns[None, :]].sum())


def numbered(rows: IntArray, columns: IntArray, groups: int) -> Partition:
    """A partition whose groups are numbered by their first input, as published."""
    first = np.full(groups, len(columns))
    np.minimum.at(first, columns, np.arange(len(columns)))
    rank = np.empty(groups, np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(groups)
    return Partition.of(rank[rows], rank[columns])


def matched(
    score: FloatArray, row_order: IntArray, column_order: IntArray, groups: int
) -> Partition:
    """Cut ordered rows and columns into blocks and pair these so that most is kept.

    row_order: (F,) row at each place; column_order: (C,). Maximum bipartite matching over the
    (G, G) sums of the blocks; O(F C + G^3).
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 (slow to import)

    rows, columns = np.empty_like(row_order), np.empty_like(column_order)
    rows[row_order] = contiguous(len(row_order), groups)
    columns[column_order] = contiguous(len(column_order), groups)
    sums = indicator(rows, groups).T @ score @ indicator(columns, groups)
    of_rows, of_columns = linear_sum_assignment(sums, maximize=True)
    partner = np.empty(groups, np.int64)
    partner[of_columns] = of_rows
    return numbered(rows, partner[columns], groups)

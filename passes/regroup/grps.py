"""GRPS: the published greedy sort of the groups, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.errors import UsageError
from prunec.compiler.partition import Partition
from prunec.passes.regroup.blocks import FloatArray, IntArray, matched, require_blocks


@dataclass(frozen=True, slots=True)
class Grps:
    """Heaviest rows and columns of each other go into a block, last block first; as published.

    iters: sorts per block; more need not be better. Source: Zhao and Luk, "Efficient Structured
    Pruning and Architecture Searching for Group Convolution", ICCV workshops 2019, algorithm 1,
    and the released code's order of steps. O(G iters (F C + sort)).
    """

    name: ClassVar[str] = "grps"
    iters: int = 10

    def __post_init__(self) -> None:
        if self.iters < 1:
            raise UsageError(f"permutation 'grps': iters must be at least 1, not {self.iters}")

    def __call__(self, score: FloatArray, groups: int) -> Partition:
        """score: (F, C). Raises UsageError unless `groups` divides both."""
        score = require_blocks(score, groups)
        # The published scores have norm 1. Where sums are equal that decides: rounding differs.
        norm = float(np.linalg.norm(score))
        rows, columns = sorted_groups(score / norm if norm else score, groups, self.iters)
        return matched(score, rows, columns, groups)


def sorted_groups(score: FloatArray, groups: int, iters: int) -> tuple[IntArray, IntArray]:
    """(F,) rows and (C,) columns in the order of the published group sort."""
    rows, columns = (np.arange(n, dtype=np.int64) for n in score.shape)
    high, wide = (n // groups for n in score.shape)
    turned = np.ascontiguousarray(score.T)
    for block in range(groups, 0, -1):
        ours, theirs = rows[: high * block], columns[: wide * block]
        for _ in range(iters):
            heavy = score[ours[-high:]].sum(0)[theirs]
            theirs = theirs[np.argsort(heavy, kind="stable")]
            heavy = turned[theirs[-wide:]].sum(0)[ours]
            ours = ours[np.argsort(heavy, kind="stable")]
        rows[: high * block], columns[: wide * block] = ours, theirs
    return rows, columns

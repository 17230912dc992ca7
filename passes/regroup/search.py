"""Search: blocks that keep more than any published heuristic does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.errors import UsageError
from prunec.compiler.partition import Partition
from prunec.passes.regroup.assign import assigned
from prunec.passes.regroup.blocks import (
    FloatArray,
    IntArray,
    indicator,
    kept_sum,
    numbered,
    require_blocks,
)
from prunec.passes.regroup.exact import exact_blocks, solvable
from prunec.passes.regroup.grps import Grps
from prunec.passes.regroup.same import Same

Blocks = tuple[IntArray, IntArray]
GAIN = 1e-12  # relative; less is rounding
EFFORT = 1 << 23  # elements of the matrix that restarts may look at
SHAKEN = 0.3  # of the rows change places at a restart


@dataclass(frozen=True, slots=True)
class Search:
    """From GRPS by exact exchanges of outputs and inputs in turn, restarted from shaken blocks.

    rounds: restarts; large matrices get fewer, one at least. seed: of what is shaken. Small
    matrices are solved exactly. Never below GRPS with 10 sorts.
    """

    name: ClassVar[str] = "search"
    rounds: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise UsageError(f"permutation 'search': rounds must not be below 0: {self.rounds}")

    def __call__(self, score: FloatArray, groups: int) -> Partition:
        """score: (F, C). Raises UsageError unless `groups` divides both."""
        score = require_blocks(score, groups)
        if groups == 1:
            return Same()(score, groups)
        if groups in score.shape or solvable(min(score.shape), groups):
            return numbered(*exact_blocks(score, groups), groups)
        start = Grps()(score, groups)
        blocks = climbed(score, (np.array(start.outputs), np.array(start.inputs)), groups)
        best = kept_sum(score, *blocks)
        rounds = min(self.rounds, max(1, EFFORT // (score.size * groups)))
        generator = np.random.default_rng(self.seed)
        for _ in range(rounds):
            tried = climbed(score, _shaken(score, blocks, groups, generator), groups)
            total = kept_sum(score, *tried)
            if total > best:
                blocks, best = tried, total
        return numbered(*blocks, groups)


def climbed(score: FloatArray, blocks: Blocks, groups: int) -> Blocks:
    """Rows and columns assigned in turn, each given the other, until nothing is gained."""
    rows, columns = blocks
    best = kept_sum(score, rows, columns)
    while True:
        rows = assigned(score @ indicator(columns, groups), rows)
        gains = score.T @ indicator(rows, groups)
        columns = assigned(gains, columns)
        total = float(gains[np.arange(len(columns)), columns].sum())
        if total <= best * (1 + GAIN):
            return rows, columns
        best = total


def _shaken(
    score: FloatArray, blocks: Blocks, groups: int, generator: np.random.Generator
) -> Blocks:
    """Some rows in each other's places, and the columns that fit."""
    rows, columns = blocks[0].copy(), blocks[1]
    moved = generator.choice(len(rows), max(2, int(SHAKEN * len(rows))), replace=False)
    rows[moved] = rows[np.roll(moved, 1)]
    return rows, assigned(score.T @ indicator(rows, groups), columns)

"""Sort: channels by how much they weigh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.partition import Partition
from prunec.passes.regroup.blocks import FloatArray, matched, require_blocks


@dataclass(frozen=True, slots=True)
class Sort:
    """Outputs and inputs sorted by their sums, then matched; as published (SORT)."""

    name: ClassVar[str] = "sort"

    def __call__(self, score: FloatArray, groups: int) -> Partition:
        """score: (F, C). Raises UsageError unless `groups` divides both."""
        score = require_blocks(score, groups)
        rows = np.argsort(score.sum(1), kind="stable")
        columns = np.argsort(score.sum(0), kind="stable")
        return matched(score, rows, columns, groups)

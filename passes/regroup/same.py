"""Same: blocks in the order in which the channels stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.partition import Partition
from prunec.passes.regroup.blocks import FloatArray, matched, require_blocks


@dataclass(frozen=True, slots=True)
class Same:
    """Channels stay in order; only which block of outputs reads which of inputs is chosen."""

    name: ClassVar[str] = "same"

    def __call__(self, score: FloatArray, groups: int) -> Partition:
        """score: (F, C). Raises UsageError unless `groups` divides both."""
        score = require_blocks(score, groups)
        rows, columns = (np.arange(n, dtype=np.int64) for n in score.shape)
        return matched(score, rows, columns, groups)

"""Every hyperedge is worth the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray, Limit


@dataclass(frozen=True, slots=True)
class Equal:
    """Every hyperedge is worth the same, so those that cost most are closed first.

    per_channel: every channel is worth the same instead.
    """

    name: ClassVar[str] = "equal"
    rounds: ClassVar[int] = 0
    per_channel: bool = False

    def __call__(
        self,
        graph: Hypergraph,
        limits: tuple[Limit, ...],
        counts: Sequence[int],
        totals: FloatArray,
    ) -> FloatArray:
        """(number of hyperedges,), sum 1."""
        sizes = np.array(graph.dense(), float)
        worth = sizes if self.per_channel else np.ones(len(sizes))
        return np.asarray(worth / max(worth.sum(), 1.0))

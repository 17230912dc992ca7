"""A hyperedge is worth the sum of its scores: for scores of one unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray, Limit


@dataclass(frozen=True, slots=True)
class Sum:
    """A hyperedge is worth the sum of its scores, over that of all scores.

    For criteria whose scores are in one unit over the whole model, such as an estimated loss.
    """

    name: ClassVar[str] = "sum"
    rounds: ClassVar[int] = 0

    def __call__(
        self,
        graph: Hypergraph,
        limits: tuple[Limit, ...],
        counts: Sequence[int],
        totals: FloatArray,
    ) -> FloatArray:
        """(number of hyperedges,) share of all scores; sums to 1 unless all scores are 0.

        Shares, for solvers stop at absolute tolerances and an estimated loss may be tiny.
        """
        whole = float(totals.sum())
        return totals / whole if whole > 0 else totals

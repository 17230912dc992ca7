"""Gator's weights: what the channels of a hyperedge cost, static or at the kept counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.cost import Polynomial
from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray, Limit
from prunec.compiler.spec import suggest
from prunec.compiler.weights import edge_weights

ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Gator:
    """A hyperedge is worth its channels times Gator's weight, the cost that one of them brings.

    resource: flops (the published flop factor), params (memory factor) or any other polynomial.
    adaptive: weigh at the kept counts, choosing again until they settle (at most four times).
    static_total_cost: what the cost is a share of; 0 is the dense cost. It scales the objective
    and changes no choice. Source: Passov, ICANN 2021, section 3.
    """

    name: ClassVar[str] = "gator"
    resource: str = "flops"
    adaptive: bool = True
    static_total_cost: float = 0.0

    def __post_init__(self) -> None:
        if self.static_total_cost < 0:
            raise UsageError(f"gator: static_total_cost={self.static_total_cost} is below 0")

    @property
    def rounds(self) -> int:
        """How often to choose again."""
        return ROUNDS if self.adaptive else 0

    def __call__(
        self,
        graph: Hypergraph,
        limits: tuple[Limit, ...],
        counts: Sequence[int],
        totals: FloatArray,
    ) -> FloatArray:
        """(number of hyperedges,) weight times size. Raises UsageError for a resource without."""
        cost = graph.costs.get(self.resource)
        if not isinstance(cost, Polynomial):
            known = [name for name, c in graph.costs.items() if isinstance(c, Polynomial)]
            raise UsageError(
                f"gator: no weights for resource {self.resource!r}{suggest(self.resource, known)}"
            )
        total = self.static_total_cost or float(cost(graph.dense()))
        # A hyperedge without neighbours left has weight 0; published, that divides by zero.
        worth = edge_weights(cost, counts, total) * np.array(graph.dense(), float)
        return np.asarray(np.maximum(worth, 1e-12))

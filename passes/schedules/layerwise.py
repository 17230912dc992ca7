"""One hyperedge after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.spec import suggest
from prunec.passes.schedules.schedule import Step

ORDERS = ("top", "bottom", "shuffle")


@dataclass(frozen=True, slots=True)
class Layerwise:
    """One hyperedge after the other goes to its final width, scored where the others have gone.

    The widths are chosen once, by scores of the dense model. start: top, in the order of the
    graph; bottom, from the outputs; shuffle, by seed. Hyperedges of one branch go together.
    Source: mdpi2022, `devise_layerwise_pruning_schedule`.
    """

    name: ClassVar[str] = "layerwise"
    start: str = "top"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.start not in ORDERS:
            raise UsageError(
                f"schedule 'layerwise': unknown start {self.start!r}{suggest(self.start, ORDERS)}"
            )

    def course(self, graph: Hypergraph) -> tuple[Step, ...]:
        """One per hyperedge or branch."""
        branch_of = {e: branch for branch in graph.branches for e in branch}
        order = np.arange(len(graph.edges))
        if self.start == "bottom":
            order = order[::-1]
        elif self.start == "shuffle":
            order = np.random.default_rng(self.seed).permutation(order)
        together = dict.fromkeys(branch_of.get(e, (e,)) for e in order.tolist())
        return tuple(Step(edges=edges) for edges in together)

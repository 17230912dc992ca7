"""Magnitude: how large the parameters are that leave with a channel group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.spec import suggest
from prunec.compiler.stats import Stats
from prunec.passes.criteria.stored import axis_sums

SCALES = ("hyperedge", "tensor")


@dataclass(frozen=True, slots=True)
class Magnitude:
    """Lp size (p = 1 or 2) of all parameters that leave with a channel group.

    normalise: `hyperedge` is the norm over all members of the group. `tensor` sums, over the
    weights that a group runs through, its share of sum |w|^p of that weight, so that every weight
    has the same say; biases and norms have none. tools/bench/criteria.py compares them.
    """

    name: ClassVar[str] = "magnitude"
    needs: ClassVar[str] = ""
    p: int = 2
    normalise: str = "hyperedge"

    def __post_init__(self) -> None:
        if self.p not in (1, 2):
            raise UsageError(f"criterion 'magnitude': p must be 1 or 2, not {self.p}")
        if self.normalise not in SCALES:
            raise UsageError(
                f"criterion 'magnitude': unknown normalise {self.normalise!r}"
                f"{suggest(self.normalise, SCALES)}"
            )

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> FloatArray:
        """(number_of_groups,) float64, >= 0."""
        total = np.zeros(graph.number_of_groups)
        ranks = {w.value: len(w.shape) for w in graph.weights}
        for (value, _), groups, sums in axis_sums(model, graph, self.p):
            live = groups != KEPT
            own = np.bincount(groups[live], sums[live], len(total))
            if self.normalise != "tensor":
                total += own
            elif ranks[value] > 1 and sums.any():
                total += own / sums.sum()
        if self.normalise == "tensor":
            return total
        return total if self.p == 1 else np.sqrt(total)

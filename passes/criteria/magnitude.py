"""Magnitude: how large the parameters are that leave with a channel group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.stats import Stats
from prunec.passes.criteria.normalise import per_hyperedge
from prunec.passes.criteria.stored import axis_sums


@dataclass(frozen=True, slots=True)
class Magnitude:
    """Lp norm of all parameters that leave with a channel group, per hyperedge mean 1."""

    name: ClassVar[str] = "magnitude"
    needs_data: ClassVar[bool] = False
    p: int = 2
    normalise: bool = True

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> FloatArray:
        """(number_of_groups,) ``(sum |w|^p)^(1/p)`` over every member of each group."""
        if self.p not in (1, 2):
            raise UsageError(f"criterion 'magnitude': p must be 1 or 2, not {self.p}")
        total = np.zeros(graph.number_of_groups)
        for (_, _), groups, sums in axis_sums(model, graph, self.p):
            live = groups != KEPT
            total += np.bincount(groups[live], sums[live], len(total))
        norm = total if self.p == 1 else np.sqrt(total)
        return per_hyperedge(graph, norm) if self.normalise else norm

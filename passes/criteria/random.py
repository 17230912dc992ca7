"""Random scores: the baseline that every criterion must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.stats import Stats
from prunec.passes.criteria.stored import require_finite


@dataclass(frozen=True, slots=True)
class Random:
    """Uniform random scores from a seed."""

    name: ClassVar[str] = "random"
    needs: ClassVar[str] = ""
    seed: int = 0

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> FloatArray:
        """(number_of_groups,) uniform in [0, 1)."""
        require_finite(model, graph)
        return np.random.default_rng(self.seed).random(graph.number_of_groups)

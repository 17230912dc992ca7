"""What an importance criterion is."""

from __future__ import annotations

from typing import ClassVar, Protocol

import onnx_ir as ir

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.stats import Stats


class Criterion(Protocol):
    """A row of `CRITERIA`: a frozen dataclass whose fields are its options.

    needs: the evidence that it reads from `Stats`, a row of `COLLECTORS` (runtime/evidence.py);
    "" where the model alone tells.
    A criterion whose scores are in one unit over the whole model, such as an estimated loss, says
    ``comparable: ClassVar[bool] = True``; hyperedges are then worth the sum of their scores.
    """

    name: ClassVar[str]
    needs: ClassVar[str]

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> FloatArray:
        """(number_of_groups,) float64, >= 0, comparable within a hyperedge; higher = keep."""
        ...

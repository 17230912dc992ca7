"""What an importance criterion is."""

from __future__ import annotations

from typing import ClassVar, Protocol

import onnx_ir as ir

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.stats import Stats


class Criterion(Protocol):
    """A row of `CRITERIA`: a frozen dataclass whose fields are its options.

    needs_data: whether it can score without calibration statistics.
    """

    name: ClassVar[str]
    needs_data: ClassVar[bool]

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> FloatArray:
        """(number_of_groups,) float64, >= 0, comparable within a hyperedge; higher = keep."""
        ...

"""Files of multipliers by hyperedge name: ``{"conv1.weight:0": 1.5}``."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path

import numpy as np

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.named import read_numbers
from prunec.compiler.problem import FloatArray


def read_multipliers(path: str | Path) -> dict[str, float]:
    """Factors above 0 by hyperedge name. Raises UsageError."""
    return read_numbers(path, "factors", "a number above 0", lambda x: isfinite(x) and x > 0)


def multipliers_of(graph: Hypergraph, factors: Mapping[str, float]) -> FloatArray:
    """(number of hyperedges,) factors, 1 where none is given. Raises UsageError for other names."""
    for name in factors:
        graph.edge(name)
    return np.array([factors.get(edge.name, 1.0) for edge in graph.edges])

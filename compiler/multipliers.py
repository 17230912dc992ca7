"""Files of multipliers by hyperedge name: ``{"conv1.weight:0": 1.5}``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path

import numpy as np

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray


def read_multipliers(path: str | Path) -> dict[str, float]:
    """Factors above 0 by hyperedge name. Raises UsageError."""
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # a JSONDecodeError or UnicodeDecodeError
        raise UsageError(f"{path}: is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise UsageError(f"{path}: must be an object of factors by hyperedge name")
    for name, factor in table.items():
        number = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not number or not (isfinite(factor) and factor > 0):
            raise UsageError(f"{path}: {name!r}: must be a number above 0, not {factor!r}")
    return {name: float(factor) for name, factor in table.items()}


def multipliers_of(graph: Hypergraph, factors: Mapping[str, float]) -> FloatArray:
    """(number of hyperedges,) factors, 1 where none is given. Raises UsageError for other names."""
    for name in factors:
        graph.edge(name)
    return np.array([factors.get(edge.name, 1.0) for edge in graph.edges])

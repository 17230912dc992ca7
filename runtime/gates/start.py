"""Gate parameters before the first step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.passes.criteria.gate import Gate

SPREAD = 0.1  # of the logit, each way, for random_init


def first_theta(graph: Hypergraph, how: Gate) -> FloatArray:
    """(number_of_groups,) logits of the first probabilities. Raises UsageError."""
    likely = np.full(len(graph.edges), 0.0)
    if isinstance(how.init, str):
        likely[:] = _from_file(graph, how.init)
    else:
        likely[:] = how.init
    theta = np.log(likely / (1 - likely))[graph.edge_of_group()]
    if how.random_init:
        rng = np.random.default_rng(how.seed)
        theta *= 1 + SPREAD * rng.uniform(-1, 1, len(theta))
    return np.asarray(theta)


def _from_file(graph: Hypergraph, path: str) -> FloatArray:
    """Probabilities by hyperedge name; "default" is that of all others."""
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"gate: init={path}: {error.strerror or error}") from error
    except ValueError as error:  # a JSONDecodeError or UnicodeDecodeError
        raise UsageError(f"gate: init={path}: is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise UsageError(f"gate: init={path}: must be an object of probabilities by hyperedge name")
    for name, p in table.items():
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0 < p < 1:
            raise UsageError(f"gate: init={path}: {name!r}: must lie between 0 and 1, not {p!r}")
        if name != "default":
            graph.edge(name)
    rest = float(table.get("default", 0.99))
    return np.array([float(table.get(e.name, rest)) for e in graph.edges])

"""Gate parameters before the first step."""

from __future__ import annotations

import numpy as np

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.named import read_numbers
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
    """Probabilities by hyperedge name; "default" is that of all others. Raises UsageError."""
    table = read_numbers(path, "probabilities", "a number between 0 and 1", lambda p: 0 < p < 1)
    rest = table.pop("default", 0.99)
    for name in table:
        graph.edge(name)
    return np.array([table.get(edge.name, rest) for edge in graph.edges])

"""Scores of different hyperedges on one scale."""

from __future__ import annotations

import numpy as np

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray


def per_hyperedge(graph: Hypergraph, scores: FloatArray) -> FloatArray:
    """Divide by the mean score of the hyperedge; all-zero hyperedges stay zero."""
    edge = graph.edge_of_group()
    sizes = np.array(graph.dense(), np.float64)
    mean = np.bincount(edge, scores, len(sizes)) / sizes
    return scores / np.where(mean > 0, mean, 1.0)[edge]

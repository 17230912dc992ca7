"""Scores of different hyperedges on one scale."""

from __future__ import annotations

import numpy as np

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray


def per_hyperedge(graph: Hypergraph, scores: FloatArray) -> FloatArray:
    """Shares within each hyperedge, times the number of weights that it runs through.

    A residual stream feeds and is fed by a dozen weights, a channel inside a block by two: losing
    half of the stream harms all of them. Scores with mean 1 in every hyperedge would make a stream
    channel, which costs most, worth no more than any other, and every budget would be met by
    closing the streams (ResNet-20 at flops=0.46: 2 of 16 channels left, 10 % top-1). An all-zero
    hyperedge stays zero.
    """
    edge = graph.edge_of_group()
    totals = np.bincount(edge, scores, len(graph.edges))
    scale = weights_per_hyperedge(graph) / np.where(totals > 0, totals, 1.0)
    return scores * scale[edge]


def weights_per_hyperedge(graph: Hypergraph) -> FloatArray:
    """(number of hyperedges,) how many axes of weights with two or more axes, at least 1."""
    matrices = {w.value for w in graph.weights if w.counted and len(w.shape) > 1}
    counts = [sum(m.value in matrices for m in edge.members) for edge in graph.edges]
    return np.maximum(np.array(counts, np.float64), 1.0)

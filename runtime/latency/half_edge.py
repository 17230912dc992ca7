"""Latency as FLOPs with a factor per hyperedge, from timing each at half its channels (Gator)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.cost import Linear, Polynomial, Tabled
from prunec.compiler.hypergraph import Hypergraph
from prunec.runtime.latency.kernels import ODD, Times, Where
from prunec.runtime.latency.timing import samples_of
from prunec.runtime.subject import Subject

FloatArray = NDArray[np.float64]
GROUP = 4
LEAST_FACTOR = 0.01  # where half the channels save nothing; a factor must be above 0


@dataclass(frozen=True, slots=True)
class Halves:
    """Nanoseconds of the dense model, and with each hyperedge alone at half its channels."""

    dense: int
    edges: Mapping[str, int]


def time_halves(
    subject: Subject,
    where: Where,
    rounds: int = 12,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Halves:
    """Time the hyperedges of at least 2 channels, a few at a time and the dense model with them.

    What is kept is the ratio to the dense model of the same minutes, times the mean dense time.
    """
    dense = subject.graph.dense()
    narrow = [e for e, size in enumerate(dense) if size > 1]
    ratios: dict[str, float] = {}
    wholes: list[float] = []
    for start in range(0, len(narrow), GROUP):
        group = narrow[start : start + GROUP]
        counts = [[n // 2 if k == e else n for k, n in enumerate(dense)] for e in group]
        whole, *halved = samples_of(subject, [dense, *counts], where, rounds)
        wholes.append(ordinary_mean(whole))
        for e, times in zip(group, halved, strict=True):
            ratios[subject.graph.edges[e].name] = ordinary_mean(times) / wholes[-1]
        progress(start + len(group), len(narrow))
    mean = float(np.mean(wholes)) if wholes else 0.0
    return Halves(round(mean), {name: round(mean * ratio) for name, ratio in ratios.items()})


def ordinary_mean(times: Times) -> float:
    """Mean of the runs with ``|x - mean| / std < 1.5``, as published; of all if none is left."""
    spread = times.std()
    kept = times[np.abs(times - times.mean()) < ODD * spread] if spread > 0 else times
    return float((kept if len(kept) else times).mean())


def relative_factors(dense: float, halved: FloatArray, flop_shares: FloatArray) -> FloatArray:
    """Share of the time that half of each hyperedge's channels save, by their share of the FLOPs.

    halved: times, in the unit of `dense`. Source: Gator (ICANN 2021), timing_results_analysis.
    """
    return (dense - halved) / dense / flop_shares


def multipliers(graph: Hypergraph, halves: Halves) -> dict[str, float]:
    """Factor by hyperedge name; only those that were timed and that FLOPs run through."""
    flops = graph.costs["flops"]
    whole = _exact(flops.rows[0].terms, graph.dense())
    out = {}
    for e, edge in enumerate(graph.edges):
        counts = [n // 2 if k == e else n for k, n in enumerate(graph.dense())]
        share = 1 - _exact(flops.rows[0].terms, counts) / whole if whole else 0.0
        if edge.name in halves.edges and share > 0:
            taken = np.array([float(halves.edges[edge.name])])
            (factor,) = relative_factors(float(halves.dense), taken, np.array([share]))
            out[edge.name] = max(float(factor), LEAST_FACTOR)
    return out


def half_edge_cost(graph: Hypergraph, factors: Mapping[str, float], dense_ns: int) -> Tabled:
    """Multiply-accumulates, each product as dear as the factors of its sides say, in nanoseconds.

    A side is as dear as its hyperedges, by their share of its channels; a product as the mean of
    its sides. The sum is scaled so that the dense model takes `dense_ns`.
    """
    dense = graph.dense()
    own = [factors.get(edge.name, 1.0) for edge in graph.edges]
    products = []
    for scale, axes in graph.trace.ledger.multiplications:
        sides = [_side(axis, own, dense) for axis in axes if axis.terms]
        products.append((scale * (float(np.mean(sides)) if sides else 1.0), axes))
    whole = sum(scale * float(np.prod([axis(dense) for axis in axes])) for scale, axes in products)
    rate = dense_ns / whole if whole else 0.0
    return Tabled(Polynomial.of((scale * rate, axes) for scale, axes in products), ())


def _side(axis: Linear, own: Sequence[float], dense: Sequence[int]) -> float:
    sizes = np.array([m * dense[e] for e, m in axis.terms], np.float64)
    return float(np.average([own[e] for e, _ in axis.terms], weights=sizes))


def _exact(terms: Sequence[Callable[[Sequence[int]], float]], counts: Sequence[int]) -> float:
    return float(sum(term(counts) for term in terms))

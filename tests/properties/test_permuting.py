"""Channels in another order: permuted == original in every bit, on random graphs."""

from __future__ import annotations

import numpy as np
import pytest
from properties.builder import feeds
from properties.graphs import BLOCKS, one_block, random_graph
from properties.oracle import Case, analyse

from prunec.compiler.freedom import Freedom
from prunec.frontends.onnx import to_proto
from prunec.passes.regroup.permute import Order, movable, natural_order, permute
from prunec.runtime.session import make_session

pytest.importorskip("onnxruntime")

FREE = Freedom(residual=True)
# A norm's or softmax's sums run in another order; all else are integers.
ROUNDING = 1e-5


def shuffled(subject: Case, seed: int) -> Order:
    """Every hyperedge that may move, in random order."""
    rng = np.random.default_rng(seed)
    order = natural_order(subject.graph)
    for edge, free in zip(subject.graph.edges, movable(subject.graph), strict=True):
        if free:
            own = slice(edge.first, edge.first + edge.size)
            order[own] = rng.permutation(order[own])
    return order


def check(subject: Case, seed: int) -> bool:
    """Equal outputs; whether any channel moved."""
    order = shuffled(subject, seed)
    given = feeds(subject.proto, seed)
    models = subject.model, permute(subject.model, subject.graph, order)
    want, got = (
        make_session(to_proto(m).SerializeToString(), optimise=False).run(given) for m in models
    )
    for a, b in zip(want, got, strict=True):
        if subject.graph.inexact:
            largest = float(np.abs(a[np.isfinite(a)]).max(initial=1.0))
            assert np.allclose(a, b, atol=ROUNDING * largest, equal_nan=True)
        else:
            assert np.array_equal(a, b, equal_nan=True)
    return bool((order != natural_order(subject.graph)).any())


@pytest.mark.parametrize("first", range(0, 40, 20))
def test_permuted_equals_original_on_random_graphs(first: int) -> None:
    moved = [check(analyse(random_graph(seed), FREE), seed) for seed in range(first, first + 20)]
    assert sum(moved) > 10


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_permuted_equals_original_around_one_block(name: str) -> None:
    for seed in range(100, 101):
        check(analyse(one_block(name, seed), FREE), seed)

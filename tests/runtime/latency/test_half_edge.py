"""Gator's latency factors, on constructed numbers: the published timings are not at hand."""

from __future__ import annotations

import numpy as np
import pytest

from prunec.runtime.latency.half_edge import (
    LEAST_FACTOR,
    Halves,
    half_edge_cost,
    multipliers,
    ordinary_mean,
    relative_factors,
    time_halves,
)
from prunec.runtime.latency.kernels import Where
from prunec.runtime.subject import Subject, open_model
from prunec.tools.demo import DIGITS


@pytest.fixture(scope="module")
def subject() -> Subject:
    return open_model(DIGITS)


def test_a_run_beyond_one_and_a_half_deviations_is_dropped() -> None:
    # mean 12, standard deviation 4: 20 is 2 of them away.
    assert ordinary_mean(np.array([10.0, 10.0, 10.0, 10.0, 20.0])) == 10
    assert ordinary_mean(np.array([9.0, 10.0, 11.0])) == 10
    assert ordinary_mean(np.full(3, 4.0)) == 4


def test_factors_are_reductions_of_time_by_reductions_of_flops() -> None:
    # 200 ms; half of the first hyperedge takes 194 ms and 2.4 % of the FLOPs.
    found = relative_factors(200.0, np.array([194.0, 199.0]), np.array([0.024, 0.02]))
    assert found == pytest.approx([0.03 / 0.024, 0.005 / 0.02])


def saving_by_flops(subject: Subject, dense: int) -> Halves:
    """Times of a machine on which only multiplications count."""
    flops = subject.graph.costs["flops"]
    sizes = subject.graph.dense()
    edges = {}
    for e, edge in enumerate(subject.graph.edges):
        half = [n // 2 if k == e else n for k, n in enumerate(sizes)]
        edges[edge.name] = round(dense * flops(half) / flops(sizes))
    return Halves(dense, edges)


def test_where_only_flops_count_all_factors_are_1(subject: Subject) -> None:
    found = multipliers(subject.graph, saving_by_flops(subject, 10**9))
    assert list(found) == [edge.name for edge in subject.graph.edges]
    assert list(found.values()) == pytest.approx([1.0] * len(found), rel=1e-3)
    cost, flops = half_edge_cost(subject.graph, found, 10**9), subject.graph.costs["flops"]
    dense = subject.graph.dense()
    half = [n // 2 for n in dense]
    assert cost(dense) == pytest.approx(10**9, rel=1e-6)
    assert cost(half) / cost(dense) == pytest.approx(flops(half) / flops(dense), rel=1e-3)


def test_a_hyperedge_that_saves_nothing_has_the_least_factor(subject: Subject) -> None:
    halves = saving_by_flops(subject, 10**9)
    first = subject.graph.edges[0].name
    slow = Halves(halves.dense, {**halves.edges, first: halves.dense + 1})
    assert multipliers(subject.graph, slow)[first] == LEAST_FACTOR


def test_a_dearer_hyperedge_saves_more(subject: Subject) -> None:
    dense = subject.graph.dense()
    name = subject.graph.edges[3].name
    less = [n // 2 if k == 3 else n for k, n in enumerate(dense)]
    plain = half_edge_cost(subject.graph, {}, 10**9)
    dear = half_edge_cost(subject.graph, {name: 4.0}, 10**9)
    assert dear(dense) == pytest.approx(plain(dense), abs=1)
    assert dear(less) < plain(less)


def test_hyperedges_are_timed(subject: Subject) -> None:
    halves = time_halves(subject, Where(), rounds=1)
    assert set(halves.edges) == {edge.name for edge in subject.graph.edges}
    assert min(halves.dense, *halves.edges.values()) > 0

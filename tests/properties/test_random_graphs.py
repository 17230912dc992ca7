"""Gated dense == pruned and polynomial == recount, on random graphs and random choices."""

from __future__ import annotations

import numpy as np
import pytest
from properties.graphs import BLOCKS, one_block, random_graph
from properties.oracle import analyse, check, counts, random_masks

from prunec.compiler.freedom import Freedom
from prunec.compiler.interpret import interpret

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("first", range(0, 120, 10))
def test_gated_equals_pruned_on_random_graphs(first: int) -> None:
    for seed in range(first, first + 10):
        subject = analyse(random_graph(seed))
        for number, mask in enumerate(random_masks(subject.graph, seed, 2)):
            check(subject, mask, seed, full=number == 0)


@pytest.mark.parametrize("freedom", [Freedom(residual=True), Freedom(heads=True)], ids=str)
def test_gated_equals_pruned_with_more_freedom(freedom: Freedom) -> None:
    """With `residual` the reference runs norms, means and softmax over the kept channels."""
    inexact = 0
    blocks = [one_block(name, seed) for name in sorted(BLOCKS) for seed in (100, 101, 102)]
    for seed, proto in enumerate([*(random_graph(seed) for seed in range(20)), *blocks]):
        subject = analyse(proto, freedom)
        inexact += bool(subject.graph.inexact)
        (mask,) = random_masks(subject.graph, seed, 1)
        check(subject, mask, seed)
    assert (inexact > 2) == freedom.residual


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_gated_equals_pruned_around_one_block(name: str) -> None:
    for seed in range(100, 102):
        subject = analyse(one_block(name, seed))
        (mask,) = random_masks(subject.graph, seed, 1)
        check(subject, mask, seed)


@pytest.mark.parametrize("name", sorted(BLOCKS.keys() - {"rotated"}))
def test_every_block_leaves_something_to_prune(name: str) -> None:
    assert any(analyse(one_block(name, seed)).graph.edges for seed in range(4))


def test_keeping_everything_changes_no_cost() -> None:
    for seed in range(10):
        subject = analyse(random_graph(seed))
        mask = np.ones(subject.graph.number_of_groups + 1, bool)
        check(subject, mask, seed)
        assert counts(subject.graph, mask) == list(subject.graph.dense())


def test_costs_never_grow_when_a_channel_leaves() -> None:
    for seed in range(20):
        graph = analyse(random_graph(seed)).graph
        dense = list(graph.dense())
        for e in range(len(dense)):
            fewer = [*dense[:e], dense[e] - 1, *dense[e + 1 :]]
            for cost in graph.costs.values():
                assert cost(fewer) <= cost(dense)


def test_coupling_is_the_same_twice() -> None:
    for seed in range(20):
        subject = analyse(random_graph(seed))
        again = interpret(subject.model, subject.facts)
        assert again.edges == subject.graph.edges
        assert again.costs == subject.graph.costs
        assert list(again.axes) == list(subject.graph.axes)
        for axis, groups in again.axes.items():
            assert np.array_equal(groups, subject.graph.axes[axis])


def test_groups_of_an_axis_are_numbered_within_their_hyperedges() -> None:
    for seed in range(20):
        graph = analyse(random_graph(seed)).graph
        total = graph.number_of_groups
        assert [e.first for e in graph.edges] == np.cumsum([0, *graph.dense()])[:-1].tolist()
        for groups in graph.axes.values():
            assert groups.min() >= -1
            assert groups.max() < total

"""Decoupled additions: gated == pruned and polynomial == recount, on random trees of them."""

from __future__ import annotations

import numpy as np
import pytest
from properties.graphs import BLOCKS, one_block, random_graph
from properties.oracle import analyse, check, random_masks
from properties.streams import random_streams

from prunec.compiler.freedom import Freedom
from prunec.compiler.hypergraph import KEPT
from prunec.compiler.joins import joins_hold

pytest.importorskip("onnxruntime")

DECOUPLED = Freedom(decouple=True)


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_gated_equals_pruned_on_random_streams(first: int) -> None:
    for seed in range(first, first + 10):
        subject = analyse(random_streams(seed), DECOUPLED)
        for number, mask in enumerate(random_masks(subject.graph, seed, 2)):
            check(subject, mask, seed, full=number == 0)


def test_gated_equals_pruned_with_any_masks() -> None:
    """What the joins demand spares work; the rewriting is right without it."""
    for seed in range(20):
        subject = analyse(random_streams(seed), DECOUPLED)
        rng = np.random.default_rng(seed)
        mask = rng.random(subject.graph.number_of_groups + 1) < 0.5
        mask[KEPT] = True
        for edge in subject.graph.edges:
            mask[edge.first + rng.integers(edge.size)] = True
        check(subject, mask, seed, full=False)


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_gated_equals_pruned_around_one_block(name: str) -> None:
    for seed in range(100, 102):
        subject = analyse(one_block(name, seed), DECOUPLED)
        (mask,) = random_masks(subject.graph, seed, 1)
        check(subject, mask, seed)


def test_gated_equals_pruned_on_random_graphs_with_every_freedom() -> None:
    every = Freedom(residual=True, decouple=True, kernels=True)
    for seed in range(20):
        subject = analyse(random_graph(seed), every)
        (mask,) = random_masks(subject.graph, seed, 1)
        check(subject, mask, seed)


def test_most_random_streams_have_joins_that_can_break() -> None:
    broken = 0
    for seed in range(20):
        graph = analyse(random_streams(seed), DECOUPLED).graph
        mask = np.random.default_rng(seed).random(graph.number_of_groups + 1) < 0.5
        mask[KEPT] = True
        broken += not joins_hold(graph, mask)
    assert broken > 15

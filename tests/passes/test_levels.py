"""Kept counts that are allowed, and what the best choice of each is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import chain, residual
from properties.oracle import analyse

from prunec.compiler.freedom import Freedom
from prunec.passes.criteria.bn_scale import BnScale
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.levels import best_subsets, closable, subset_levels, subset_share

ROWS = ((1,), (0, 1), (1, 2), (0, 2), (0, 1, 2))


def test_of_each_size_the_best_set_is_taken_and_of_equal_ones_the_first() -> None:
    assert best_subsets(np.array([1.0, 5.0, 3.0]), ROWS) == {1: (1,), 2: (1, 2), 3: (0, 1, 2)}
    assert best_subsets(np.ones(3), ROWS)[2] == (0, 1)


def test_shares_are_those_of_sets_that_are_allowed() -> None:
    share = subset_share(np.array([6.0, 1.0, 3.0]), ROWS)
    np.testing.assert_allclose(share, [0, 0.1, 0.9, 1])


def test_a_size_without_a_set_is_worth_what_a_smaller_one_is() -> None:
    share = subset_share(np.array([2.0, 1.0, 1.0]), ((0, 2), (0, 1, 2)))
    np.testing.assert_allclose(share, [0, 0, 0.75, 1])


def test_scores_of_nothing_are_shared_evenly() -> None:
    np.testing.assert_allclose(subset_share(np.zeros(3), ROWS), [0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(
    ("subsets", "least", "protected", "want"),
    [
        (ROWS, 1, False, [1, 2, 3]),
        (ROWS, 2, False, [2, 3]),
        (ROWS, 1, True, [3]),
        (((0, 2), (0, 1, 2)), 1, False, [2, 3]),
    ],
)
def test_levels_are_sizes_of_sets(
    subsets: tuple[tuple[int, ...], ...], least: int, protected: bool, want: list[int]
) -> None:
    assert subset_levels(subsets, 3, least, protected).tolist() == want


def test_a_branch_closes_only_if_all_of_it_may() -> None:
    graph = replace(analyse(residual()).graph, branches=((0, 1),))
    assert closable(graph, [0, 0], [False, False]) == ((0, 1),)
    assert closable(graph, [0, 1], [False, False]) == ()
    assert closable(graph, [0, 0], [True, False]) == ()


@pytest.mark.parametrize("p", [1, 2])
def test_rows_of_a_kernel_are_scored_by_their_weights(p: int) -> None:
    subject = analyse(chain(), Freedom(kernels=True))
    scores = Magnitude(p=p)(subject.model, subject.graph, None)
    weight = subject.model.graph.initializers["conv1.weight"].const_value
    assert weight is not None
    for axis in (2, 3):
        edge = subject.graph.edge(f"conv1.weight:{axis}")
        others = tuple(k for k in range(4) if k != axis)
        want = (np.abs(weight.numpy().astype(np.float64)) ** p).sum(others) ** (1 / p)
        np.testing.assert_allclose(scores[edge.first : edge.first + 3], want)


def test_a_criterion_without_an_opinion_on_rows_keeps_the_middle() -> None:
    subject = analyse(chain(), Freedom(kernels=True))
    scores = BnScale()(subject.model, subject.graph, None)
    edge = subject.graph.edge("conv1.weight:2")
    own = scores[edge.first : edge.first + edge.size]
    assert best_subsets(own, subject.graph.subsets[subject.graph.edges.index(edge)])[1] == (1,)

"""Greedy: feasible, close to the optimum, quick."""

from __future__ import annotations

import time

import numpy as np
import pytest
from brute_force import optimum
from instances import NETWORKS, tiny

from prunec.passes.solvers.greedy import Greedy, repair
from prunec.passes.solvers.lagrange import relax
from prunec.passes.solvers.search import Products, Search


def test_moves_are_the_exact_differences_of_cost() -> None:
    for seed in range(20):
        problem = tiny(seed, 2)
        middle = tuple(int(level[len(level) // 2]) for level in problem.levels)
        search = Search(problem, Products.of(problem), middle)
        for up, jump in ((0, -1), (1, 1)):
            costs, _ = search.moves(up)
            for e in range(len(middle)):
                if not search.reachable(e, jump):
                    continue
                other = list(middle)
                other[e] = int(problem.levels[e][search.at[e] + jump])
                for r, limit in enumerate(problem.limits):
                    cost = problem.costs[limit.resource]
                    assert costs[r, e] == abs(cost(other) - cost(middle))


@pytest.mark.parametrize("network", ["resnet20", "densenet121"])
def test_a_search_that_moved_equals_one_that_starts_there(network: str) -> None:
    """Only hyperedges that share a term are counted anew; in DenseNets these are all."""
    problem = NETWORKS[network]().problem(0.5, 1)
    products, rng = Products.of(problem), np.random.default_rng(0)
    search = Search(problem, products, problem.dense())
    for e in rng.integers(0, len(problem.levels), 60).tolist():
        search.move(e, int(rng.integers(0, len(problem.levels[e]))))
    fresh = Search(problem, products, search.counts())
    np.testing.assert_array_equal(search.slack(), fresh.slack())
    for up in (0, 1):
        np.testing.assert_array_equal(search.moves(up)[0], fresh.moves(up)[0])
        np.testing.assert_array_equal(search.moves(up)[1], fresh.moves(up)[1])


def test_nothing_that_is_left_fits() -> None:
    problem = NETWORKS["resnet20"]().problem(0.46, 1)
    counts = Greedy()(problem, None).counts
    for e, level in enumerate(problem.levels):
        more = level[np.searchsorted(level, counts[e], side="right") :]
        if len(more):
            assert problem.violated((*counts[:e], int(more[0]), *counts[e + 1 :]))


def test_exchanges_do_not_make_it_worse() -> None:
    problem = NETWORKS["resnet50"]().problem(0.46, 8)
    plain, exchanged = (Greedy(moves=n)(problem, None).objective for n in (0, 4000))
    assert exchanged >= plain


def test_tiny_problems_are_mostly_solved() -> None:
    pairs = [(optimum(p), Greedy()(p, None).objective) for p in map(tiny, range(60))]
    ratios = [found / best for best, found in pairs if best]
    assert np.mean(ratios) > 0.95


@pytest.mark.parametrize("network", ["resnet20", "resnet50", "mobilenet_v2"])
def test_within_half_a_percent_of_the_bound(network: str) -> None:
    problem = NETWORKS[network]().problem(0.46, 1)
    started = time.perf_counter()
    found = Greedy()(problem, None)
    assert time.perf_counter() - started < 5  # 0.2 s alone on one core
    relaxed = relax(problem, found.counts, 0.001, 30)
    assert relaxed is not None
    assert found.objective >= relaxed.bound * (1 - 0.005)


def test_repair_keeps_a_choice_that_is_allowed() -> None:
    problem = NETWORKS["resnet20"]().problem(0.46, 8)
    counts = Greedy()(problem, None).counts
    assert repair(problem, counts) == counts

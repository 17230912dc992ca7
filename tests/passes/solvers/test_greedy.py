"""Greedy: feasible, close to the optimum, quick."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from brute_force import optimum
from instances import NETWORKS, general, tiny

from prunec.compiler.cost import Row
from prunec.passes.solvers import products
from prunec.passes.solvers.descent import repair
from prunec.passes.solvers.greedy import Greedy
from prunec.passes.solvers.lagrange import relax
from prunec.passes.solvers.products import Products
from prunec.passes.solvers.search import Search


@pytest.mark.parametrize("seed", range(60))
def test_moves_say_what_they_cost_and_bring(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From wherever the search has come to; every move leads to a choice that is allowed."""
    problem = tiny(seed, 2) if seed < 10 else general(seed)
    if seed % 3 == 0:  # tables that are interpolated instead of looked up
        monkeypatch.setattr(products, "CELLS", 8)
    rng = np.random.default_rng(seed)
    search = Search(
        problem, Products.of(problem), problem.smallest() if seed % 2 else problem.dense()
    )
    for _ in range(6):
        here, before = search.counts(), list(search.at)
        costs, worths = search.moves().costs.copy(), search.moves().worths.copy()
        columns = np.flatnonzero(~np.isnan(worths)).tolist()
        for column in columns:
            search.take(column)
            there = search.counts()
            assert problem.allowed(there)
            assert problem.objective(there) - problem.objective(here) == pytest.approx(
                worths[column]
            )
            for r, (row, _) in enumerate(problem.rows):
                assert costs[r, column] == pytest.approx(exact(row, there) - exact(row, here))
            search.restore(before)
        if not columns:
            return
        search.take(int(rng.choice(columns)))


def exact(row: Row, counts: Sequence[int]) -> float:
    return sum(part(counts) for part in (*row.terms, *row.tables))


@pytest.mark.parametrize("network", ["resnet20", "densenet121"])
def test_a_search_that_moved_equals_one_that_starts_there(network: str) -> None:
    """Only hyperedges that share a term are counted anew; in DenseNets these are all."""
    problem = NETWORKS[network]().problem(0.5, 1)
    arrays, rng = Products.of(problem), np.random.default_rng(0)
    search = Search(problem, arrays, problem.dense())
    for e in rng.integers(0, len(problem.levels), 60).tolist():
        search.move(e, int(rng.integers(0, len(problem.levels[e]))))
    fresh = Search(problem, arrays, search.counts())
    np.testing.assert_array_equal(search.slack(), fresh.slack())
    np.testing.assert_array_equal(search.moves().costs, fresh.moves().costs)
    np.testing.assert_array_equal(search.moves().worths, fresh.moves().worths)


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
    started = time.process_time()
    found = Greedy(bound=False)(problem, None)
    assert time.process_time() - started < 5  # 0.4 s on one core
    relaxed = relax(problem, found.counts, 0.001, 30)
    assert relaxed is not None
    assert found.objective >= relaxed.bound * (1 - 0.005)


def test_repair_keeps_a_choice_that_is_allowed() -> None:
    problem = NETWORKS["resnet20"]().problem(0.46, 8)
    counts = Greedy()(problem, None).counts
    assert repair(problem, counts) == counts

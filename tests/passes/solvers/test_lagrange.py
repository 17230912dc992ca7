"""The Lagrangian relaxation: a bound that holds, tight on chains, absent on dense graphs."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import optimum
from instances import NETWORKS, general, tiny

from prunec.passes.solvers import elimination
from prunec.passes.solvers.greedy import Greedy
from prunec.passes.solvers.lagrange import relax


@pytest.mark.parametrize("limits", [1, 2])
@pytest.mark.parametrize("seed", range(40))
def test_bound_is_not_below_the_optimum(seed: int, limits: int) -> None:
    problem = tiny(seed, limits)
    best = optimum(problem)
    if best is None:
        return
    relaxed = relax(problem, None, 0.0, 10)
    assert relaxed is not None
    assert relaxed.bound >= best * (1 - 1e-9)
    assert not problem.violated(relaxed.counts)


@pytest.mark.parametrize("limits", [0.0, 0.5])
def test_thinned_levels_still_bound(monkeypatch: pytest.MonkeyPatch, limits: float) -> None:
    problem = NETWORKS["mobilenet_v2"]().problem(0.46, 1, params=limits)
    start = Greedy()(problem, None).counts
    exact = relax(problem, start, 0.0002, 30)
    monkeypatch.setattr(elimination, "CELLS", 100_000)
    thinned = relax(problem, start, 0.0002, 30)
    assert exact is not None and thinned is not None
    assert thinned.bound >= max(exact.bound, problem.objective(exact.counts)) * (1 - 0.0002)
    assert thinned.bound <= exact.bound * 1.005


@pytest.mark.parametrize("cells", [3, 8, 20])
def test_thinned_tables_still_bound(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    """Segments of levels, where costs are not affine: too optimistic is right, too low is not."""
    monkeypatch.setattr(elimination, "CELLS", cells)
    monkeypatch.setattr(elimination, "FEW_LEVELS", 1)
    reached = 0
    for seed in range(80):
        problem = general(seed)
        best, relaxed = optimum(problem), relax(problem, None, 0.0, 10)
        if relaxed is None or best is None:
            continue
        reached += 1
        assert relaxed.bound >= best * (1 - 1e-9)
        assert not relaxed.counts or problem.feasible(relaxed.counts)
    assert reached


@pytest.mark.parametrize("seed", range(80))
def test_no_choice_is_only_claimed_where_there_is_none(seed: int) -> None:
    problem = general(seed)
    relaxed = relax(problem, None, 0.0, 10)
    assert relaxed is not None
    if relaxed.bound == -np.inf:
        assert optimum(problem) is None


def test_dense_blocks_are_out_of_reach() -> None:
    assert relax(NETWORKS["densenet121"]().problem(0.46, 8), None, 0.001, 10) is None


def test_no_limits_no_relaxation() -> None:
    problem = tiny(0, 0)
    assert relax(problem, None, 0.001, 10) is None

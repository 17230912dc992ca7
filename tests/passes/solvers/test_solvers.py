"""What every row of SOLVERS keeps to."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from brute_force import optimum
from instances import NETWORKS, problem_of, score_sums, tiny

from prunec.compiler.cost import Linear, Polynomial
from prunec.compiler.problem import Limit, Status
from prunec.passes.solvers import SOLVERS

rows = pytest.mark.parametrize("name", SOLVERS)


@rows
def test_row_is_a_frozen_dataclass_with_its_name(name: str) -> None:
    solver = SOLVERS[name]
    assert solver.name == name
    assert dataclasses.is_dataclass(solver)
    assert solver.__dataclass_params__.frozen


@rows
@pytest.mark.parametrize("limits", [1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_answers_are_allowed_and_bounds_hold(name: str, limits: int, seed: int) -> None:
    problem = tiny(seed, limits)
    best = optimum(problem)
    found = SOLVERS[name]()(problem, None)
    if best is None:
        assert (found.status, found.counts) == (Status.INFEASIBLE, ())
        return
    assert not problem.violated(found.counts)
    assert all(n in level for n, level in zip(found.counts, problem.levels, strict=True))
    assert found.objective == problem.objective(found.counts) <= best + 1e-9
    assert found.bound is None or found.bound >= best * (1 - 1e-6)


@rows
def test_a_limit_that_does_not_bind_keeps_everything(name: str) -> None:
    problem = NETWORKS["resnet20"]().problem(1.0, 8)
    found = SOLVERS[name]()(problem, None)
    assert found.counts == problem.dense()
    assert (found.gap, found.status) == (0.0, Status.OPTIMAL)


@rows
def test_protected_hyperedges_stay_dense(name: str) -> None:
    problem = NETWORKS["resnet20"]().problem(0.7, 8)
    levels = (problem.levels[0][-1:], *problem.levels[1:])
    found = SOLVERS[name]()(dataclasses.replace(problem, levels=levels), None)
    assert found.counts[0] == 16
    assert not problem.violated(found.counts)


@rows
def test_only_dense_levels_are_infeasible_or_dense(name: str) -> None:
    problem = NETWORKS["resnet20"]().problem(0.5, 8)
    fixed = dataclasses.replace(problem, levels=tuple(x[-1:] for x in problem.levels))
    assert SOLVERS[name]()(fixed, None).status is Status.INFEASIBLE
    loose = dataclasses.replace(fixed, limits=(Limit("flops", 10**12),))
    assert SOLVERS[name]()(loose, None).counts == problem.dense()


@rows
def test_a_better_start_is_not_lost(name: str) -> None:
    problem = NETWORKS["resnet20"]().problem(0.5, 1)
    best = SOLVERS["milp"](gap=0.0001)(problem, None)
    assert SOLVERS[name]()(problem, best.counts).objective >= best.objective


@rows
def test_an_impossible_start_is_ignored(name: str) -> None:
    problem = NETWORKS["resnet20"]().problem(0.5, 8)
    assert not problem.violated(SOLVERS[name]()(problem, problem.dense()).counts)


@rows
def test_same_problem_same_answer(name: str) -> None:
    first, second = (
        SOLVERS[name]()(NETWORKS["resnet20"]().problem(0.46, 1, spread=0.1), None) for _ in range(2)
    )
    assert (first.counts, first.bound) == (second.counts, second.bound)


@rows
def test_two_budgets_hold_together(name: str) -> None:
    problem = NETWORKS["resnet20"]().problem(0.5, 1, params=0.4)
    found = SOLVERS[name]()(problem, None)
    assert not problem.violated(found.counts)
    assert min(problem.costs[x.resource](found.counts) / x.at_most for x in problem.limits) > 0.8


@rows
def test_a_zero_limit_empties_what_it_can(name: str) -> None:
    cost = Polynomial.of([(3, (Linear(0, ((0, 1),)), Linear(0, ((1, 2),))))])
    values = [score_sums([2.0, 1.0]), score_sums([4.0, 3.0, 1.0])]
    levels = [np.arange(3), np.arange(4)]
    problem = problem_of(values, levels, {"flops": cost}, [Limit("flops", 0)])
    found = SOLVERS[name]()(problem, None)
    assert cost(found.counts) == 0
    assert found.objective in (3.0, 8.0)


@pytest.mark.parametrize("network", NETWORKS)
def test_default_solver_proves_a_tenth_of_a_percent(network: str) -> None:
    problem = NETWORKS[network]().problem(0.46, 8)
    found = SOLVERS["auto"]()(problem, None)
    assert found.status is Status.OPTIMAL
    assert found.gap is not None and found.gap <= 0.001 + 1e-6


def test_the_default_solver_says_who_found_the_choice() -> None:
    problem = NETWORKS["resnet50"]().problem(0.46, 8, spread=0.1)
    found, quick = SOLVERS["auto"]()(problem, None), SOLVERS["greedy"]()(problem, None)
    assert found.solver == ("greedy" if found.counts == quick.counts else "milp")
    assert found.bound is not None

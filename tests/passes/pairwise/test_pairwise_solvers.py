"""All solvers of the pairwise objective: valid, never above the bound, milp at the optimum."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from pairwise_instances import KINDS, drawn, optimum

from prunec.compiler.errors import UsageError
from prunec.compiler.pairwise import PairwiseProblem
from prunec.compiler.problem import Limit, Status
from prunec.compiler.spec import parse
from prunec.passes.pairwise import PAIRWISE_SOLVERS
from prunec.passes.pairwise.bound import upper_bound
from prunec.passes.pairwise.lagrangian import Lagrangian
from prunec.passes.pairwise.milp import Milp

SEEDS = range(3)
# Sums in another order.
CLOSE = 1e-9


@cache
def instance(kind: str, seed: int) -> tuple[PairwiseProblem, float | None]:
    problem = drawn(kind, seed, 0.45 + 0.1 * seed)
    return problem, optimum(problem)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PAIRWISE_SOLVERS)
def test_a_solution_is_valid_and_lies_between_optimum_and_bound(
    name: str, kind: str, seed: int
) -> None:
    problem, best = instance(kind, seed)
    assert best is not None
    found = PAIRWISE_SOLVERS[name]()(problem, None)
    if name == "greedy" and not len(found.mask):
        pytest.skip("the smallest choice is not the cheapest one here")
    assert problem.faults(found.mask) == []
    assert found.objective == pytest.approx(problem.objective(found.mask), rel=CLOSE)
    assert found.bound is not None
    assert found.objective - CLOSE <= best <= found.bound + CLOSE
    assert found.status is (Status.OPTIMAL if name in ("milp", "auto") else Status.FEASIBLE)
    if found.status is Status.OPTIMAL:
        assert found.objective == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_lagrangian_comes_near(kind: str) -> None:
    problem, best = instance(kind, 1)
    assert best is not None
    assert Lagrangian()(problem, None).objective >= 0.93 * best


def test_a_start_is_never_lost() -> None:
    problem, best = instance("stream", 0)
    start = Milp()(problem, None).mask
    for solver in (Lagrangian(kicks=0), Milp(time_limit=0.0)):
        assert solver(problem, start).objective == pytest.approx(best, abs=1e-6)


def test_the_same_seed_gives_the_same_choice() -> None:
    problem, _ = instance("tree", 2)
    first, again = (Lagrangian(seed=3)(problem, None).mask for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_an_infeasible_limit_gives_no_choice_and_no_claim() -> None:
    problem = drawn("chain", 0)
    problem = PairwiseProblem(
        problem.names, problem.linear, problem.blocks, problem.levels, problem.costs,
        (Limit("flops", 1),),
    )  # fmt: skip
    for cls in PAIRWISE_SOLVERS.values():
        found = cls()(problem, None)
        assert found.status in (Status.INFEASIBLE, Status.NONE)
        assert len(found.mask) == 0
        assert found.gap is None


def test_without_a_bound_there_is_no_gap() -> None:
    problem, _ = instance("chain", 0)
    assert Lagrangian(bound=False)(problem, None).gap is None


def test_a_mask_of_everything_has_the_dense_bound() -> None:
    problem = drawn("chain", 0, 1.0)
    dense = problem.objective(problem.dense())
    bound = upper_bound(problem, dense)
    assert bound.value == pytest.approx(dense)
    assert bound.proof in ("dense", "counts")


def test_prices_say_what_one_more_percent_would_buy_at_most() -> None:
    problem, _ = instance("two limits", 1)
    found = Lagrangian()(problem, None)
    assert set(found.prices) == {"flops", "params"}
    assert all(price >= 0 for price in found.prices.values())
    assert max(found.prices.values()) > 0


@pytest.mark.parametrize(
    "spec", ["lagrangian{kicks=-1}", "greedy{step=0}", "milp{gap=-1}", "milp{threads=0}", "milk"]
)
def test_bad_options_are_refused(spec: str) -> None:
    with pytest.raises(UsageError):
        parse(spec, PAIRWISE_SOLVERS, "pairwise solver")


def test_the_milp_refuses_what_is_too_large_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunec.passes.pairwise.milp.MOST", 3)
    with pytest.raises(UsageError, match="use --solver lagrangian"):
        Milp()(instance("chain", 0)[0], None)

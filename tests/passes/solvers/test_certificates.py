"""No wrong claim comes out: not at a loose gap, at no time, nor when a back end is killed."""

from __future__ import annotations

import subprocess
import threading
from typing import Any

import pytest
from brute_force import optimum
from instances import NETWORKS, general, staircase
from test_milp import each_backend, needs_highs

from prunec.compiler.problem import Problem, Solution, Status
from prunec.passes.solvers import SOLVERS, backends, statement
from prunec.passes.solvers.auto import Auto
from prunec.passes.solvers.backends import Answer, Request
from prunec.passes.solvers.greedy import Greedy
from prunec.passes.solvers.milp import Milp

PROVERS = {"lagrangian", "highs", "cbc", "dense"} | {
    f"lp relaxation ({name})" for name in backends.BACKENDS
}


def check(problem: Problem, found: Solution, best: float | None, gap: float = 1.0) -> None:
    """Hold every claim of a solution against the truth."""
    if best is None:
        assert not found.counts
        assert found.status in (Status.INFEASIBLE, Status.NONE)
        return
    assert found.status is not Status.INFEASIBLE
    if found.counts:
        assert problem.feasible(found.counts)
        assert found.objective == problem.objective(found.counts) <= best + 1e-9
    if found.bound is not None:
        assert found.bound >= best * (1 - 1e-6) - 1e-9
        assert found.proof in PROVERS
    if found.status is Status.OPTIMAL:
        assert found.objective >= best * (1 - gap - 1e-5)
        assert found.gap is not None and found.gap <= gap + 1e-5


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("seed", range(120))
def test_every_solver_agrees_with_brute_force(name: str, seed: int) -> None:
    problem = general(seed)
    best = optimum(problem)
    solver = SOLVERS[name]() if name == "greedy" else SOLVERS[name](gap=0.0)
    found = solver(problem, None)
    check(problem, found, best, gap=0.0)
    if best is None and name != "greedy":  # which need not see that limits exclude each other
        assert found.status is Status.INFEASIBLE
    elif name != "greedy":
        assert found.objective == pytest.approx(best)
    assert found.counts or best is None


@each_backend
@pytest.mark.parametrize("seed", range(40))
def test_back_ends_alone_agree_with_brute_force(backend: str, seed: int) -> None:
    problem = general(seed)
    best = optimum(problem)
    found = Milp(backend, gap=0.0, relaxation=False)(problem, None)
    check(problem, found, best, gap=0.0)
    assert best is None or found.objective == pytest.approx(best)


@each_backend
@pytest.mark.parametrize("gap", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("seconds", [0.0, 0.02, 30.0])
def test_claims_hold_at_any_gap_and_limit(backend: str, gap: float, seconds: float) -> None:
    for seed in range(6):
        problem = general(seed)
        for relaxation in (True, False):
            found = Milp(backend, gap, seconds, relaxation=relaxation)(problem, None)
            check(problem, found, optimum(problem), gap)


def hard() -> Problem:
    return NETWORKS["resnet50"]().problem(0.46, 8, spread=0.1)


def killed(args: Any, **options: Any) -> Any:
    """Start CBC; kill -9 it soon where it is to search."""
    process = REAL_POPEN(args, **options)
    if "-solve" in args:  # relaxations have -initialSolve
        threading.Timer(0.2, process.kill).start()
    return process


REAL_POPEN = subprocess.Popen


def test_cbc_killed_in_its_search_leaves_the_start_and_its_proof(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    problem = hard()
    start = Greedy()(problem, None)
    monkeypatch.setattr(subprocess, "Popen", killed)
    found = Milp("cbc", gap=0.0, relaxation=False)(problem, start.counts)
    assert "back end cbc failed" in caplog.text
    assert (found.status, found.counts) == (Status.FEASIBLE, start.counts)
    assert found.proof == "lp relaxation (cbc)"
    assert found.bound is not None and start.bound is not None
    assert found.bound >= Auto()(problem, None).objective


def test_cbc_killed_at_once_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(args: Any, **options: Any) -> Any:
        process = REAL_POPEN(args, **options)
        process.kill()
        return process

    monkeypatch.setattr(subprocess, "Popen", at_once)
    found = Milp("cbc", relaxation=False)(general(1), None)
    assert (found.status, found.counts) == (Status.NONE, ())
    assert found.bound == general(1).objective(general(1).dense())


@needs_highs
def test_highs_interrupted_keeps_what_it_has_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(highs: Any) -> None:
        highs.HandleUserInterrupt = True
        thread = highs.startSolve()
        if highs.getLp().integrality_:
            highs.wait(0.3)
            highs.cancelSolve()
        thread.join()

    problem = hard()
    best = Auto()(problem, None)
    monkeypatch.setattr(backends, "_solve_interruptibly", interrupted)
    found = Milp("highs", gap=0.0, relaxation=False)(problem, None)
    check(problem, found, best.objective if found.objective <= best.objective else found.objective)
    assert found.status is not Status.OPTIMAL


@pytest.mark.parametrize("name", SOLVERS)
def test_every_answer_says_who_proved_it_and_what_more_would_buy(name: str) -> None:
    problem = NETWORKS["resnet20"]().problem(0.46, 1, params=0.9)
    found = SOLVERS[name]()(problem, None)
    assert found.proof in PROVERS
    assert found.bound is not None and found.gap is not None and found.gap < 0.01
    assert set(found.prices) == {"flops", "params"}
    assert found.prices["flops"] > 0 == pytest.approx(found.prices["params"], abs=1e-9)


@pytest.mark.parametrize("network", ["resnet50", "densenet121"])
def test_prices_are_what_more_of_the_budget_brings(network: str) -> None:
    """Within a fifth of the difference that one more percent makes."""
    less, more = (
        SOLVERS["auto"](gap=1e-4)(NETWORKS[network]().problem(share, 8), None)
        for share in (0.46, 0.47)
    )
    assert less.prices["flops"] == pytest.approx(more.objective - less.objective, rel=0.2)


def test_the_program_and_the_relaxation_ask_the_same_prices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = NETWORKS["resnet20"]().problem(0.46, 8)
    prices = [Milp("cbc", relaxation=on)(problem, None).prices["flops"] for on in (True, False)]
    assert prices[0] == pytest.approx(prices[1], rel=0.05)


def test_greedy_proves_its_answer_by_programming_where_elimination_is_out_of_reach() -> None:
    found = Greedy()(NETWORKS["densenet121"]().problem(0.46, 8), None)
    assert found.proof.startswith("lp relaxation")
    assert found.gap is not None and found.gap < 0.005


def test_greedy_can_be_told_to_prove_nothing() -> None:
    found = Greedy(bound=False)(NETWORKS["resnet20"]().problem(0.46, 8), None)
    assert (found.bound, found.proof, dict(found.prices)) == (None, "", {})


def test_a_back_end_that_fails_proves_nothing_for_greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(backend: str, program: object, request: Request) -> Answer:
        raise backends.SolverError("killed")

    monkeypatch.setattr(backends, "run", crash)
    found = Greedy()(NETWORKS["densenet121"]().problem(0.46, 8), None)
    assert found.counts
    assert (found.bound, found.proof) == (None, "")


@needs_highs
def test_staircases_of_a_network_are_proven_close() -> None:
    problem = staircase(NETWORKS["resnet20"](), 0.5, tread=8)
    found = Auto(time_limit=10)(problem, None)
    assert problem.feasible(found.counts)
    assert found.gap is not None and found.gap < 0.01


def test_tables_too_large_for_the_program_leave_the_relaxation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(statement, "CELLS", 10)
    problem = staircase(NETWORKS["resnet20"](), 0.5, tread=8)
    found = Auto(gap=0.0, time_limit=10)(problem, None)
    assert "too many for the MILP" in caplog.text
    assert problem.feasible(found.counts)
    assert found.proof == "lagrangian"
    assert found.status is Status.FEASIBLE

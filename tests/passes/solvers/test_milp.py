"""MILP: exact on both back ends, and no back end is trusted."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from brute_force import optimum
from instances import NETWORKS, tiny

from prunec.compiler.cost import Linear, Polynomial
from prunec.compiler.errors import MissingDependencyError, SolverError, UsageError
from prunec.compiler.problem import Limit, Problem, Status
from prunec.passes.solvers import backends
from prunec.passes.solvers.auto import Auto
from prunec.passes.solvers.backends import Answer, Request, Verdict
from prunec.passes.solvers.formulation import formulate
from prunec.passes.solvers.greedy import Greedy
from prunec.passes.solvers.milp import Milp

needs_highs = pytest.mark.skipif(
    importlib.util.find_spec("highspy") is None, reason="highspy is not installed"
)
each_backend = pytest.mark.parametrize("backend", [pytest.param("highs", marks=needs_highs), "cbc"])
Fake = Callable[[str, object, Request], Answer]
REAL_POPEN = subprocess.Popen
REAL_RUN = backends.run


def problem() -> Problem:
    return NETWORKS["resnet20"]().problem(0.46, 8, spread=0.1)


def sleeping(args: list[str], **options: Any) -> Any:
    """A CBC that does not look at its clock where it is to search."""
    if "-solve" in args:
        args = [sys.executable, "-c", "import time; time.sleep(60)"]
    return REAL_POPEN(args, **options)


def pretend(monkeypatch: pytest.MonkeyPatch, answer: Fake) -> None:
    """Replace the search of the back end, not its LPs."""

    def run(backend: str, program: object, request: Request) -> Answer:
        if not request.integer:
            return REAL_RUN(backend, program, request)
        return answer(backend, program, request)

    monkeypatch.setattr(backends, "run", run)


PURE = Milp(relaxation=False, gap=0.0)


@each_backend
@pytest.mark.parametrize("seed", range(25))
def test_agrees_with_brute_force(backend: str, seed: int) -> None:
    tiny_problem = tiny(seed, 1 + seed % 3)
    found = Milp(backend, gap=0.0, relaxation=False)(tiny_problem, None)
    best = optimum(tiny_problem)
    if best is None:
        assert found.status is Status.INFEASIBLE
        return
    assert found.status is Status.OPTIMAL
    assert found.objective == pytest.approx(best)


@pytest.mark.parametrize("seed", range(25))
def test_levels_are_ruled_out_only_if_hopeless(seed: int) -> None:
    tiny_problem = tiny(seed, 1 + seed % 2)
    best = optimum(tiny_problem)
    start = Greedy()(tiny_problem, None).counts
    if best is not None:
        assert Milp(gap=0.0)(tiny_problem, start).objective == pytest.approx(best)


@pytest.mark.parametrize("seed", range(10))
def test_formulation_costs_what_the_polynomials_cost(seed: int) -> None:
    """Fixing the binaries to a choice leaves a program that is feasible if and only if it is."""
    tiny_problem = tiny(seed, 2)
    for counts in (tiny_problem.smallest(), Greedy()(tiny_problem, None).counts):
        if not counts:
            continue
        form = formulate(tiny_problem)
        on = form.assignment(counts)
        for variable in form.program.variables():
            if variable.name in on:
                variable.lowBound = variable.upBound = on[variable.name]
        answer = REAL_RUN("cbc", form.program, Request(True, 0.0, 10.0, 1))
        allowed = not tiny_problem.violated(counts)
        assert (answer.verdict is Verdict.FINISHED) == allowed


@each_backend
def test_a_looser_budget_never_lowers_the_objective(backend: str) -> None:
    found = [
        Milp(backend, gap=0.0)(NETWORKS["resnet20"]().problem(b, 8, spread=0.3), None).objective
        for b in (0.2, 0.3, 0.45, 0.5, 0.7, 0.9)
    ]
    assert all(a <= b + 1e-9 * b for a, b in pairwise(found))


@each_backend
def test_search_alone_meets_the_gap(backend: str) -> None:
    found = Milp(backend, relaxation=False)(NETWORKS["resnet20"]().problem(0.46, 1), None)
    assert found.status is Status.OPTIMAL
    assert found.gap is not None and found.gap <= 0.001 + 1e-6


@each_backend
def test_no_output(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    Milp(backend, relaxation=False)(problem(), None)
    assert capfd.readouterr() == ("", "")


@needs_highs
def test_threads_may_differ_between_calls() -> None:
    assert [Milp("highs", threads=n, relaxation=False)(problem(), None).status for n in (1, 2)] == [
        Status.OPTIMAL
    ] * 2


@each_backend
def test_stopped_at_once_gives_no_answer(backend: str) -> None:
    found = Milp(backend, time_limit=0.0, relaxation=False)(problem(), None)
    assert (found.status, found.counts, found.gap) == (Status.NONE, (), None)


@each_backend
@pytest.mark.parametrize("seconds", [0.01, 0.3])
def test_time_limits_give_valid_answers(backend: str, seconds: float) -> None:
    hard = NETWORKS["resnet50"]().problem(0.46, 8, spread=0.1)
    start = Greedy()(hard, None)
    found = Milp(backend, time_limit=seconds, relaxation=False)(hard, start.counts)
    assert found.objective >= start.objective
    assert found.status is Status.FEASIBLE
    assert found.bound is not None and found.bound >= found.objective


def crash(backend: str, program: object, request: Request) -> Answer:
    raise SolverError("solver back end fake failed: killed")


def stopped(backend: str, program: object, request: Request) -> Answer:
    return Answer(Verdict.STOPPED, {}, None, {})


def infeasible(backend: str, program: object, request: Request) -> Answer:
    return Answer(Verdict.INFEASIBLE, {}, None, {})


def unbounded(backend: str, program: object, request: Request) -> Answer:
    return Answer(Verdict.UNBOUNDED, {}, None, {})


def fractional(backend: str, program: object, request: Request) -> Answer:
    values = {v.name: 0.5 for v in program.variables()}
    return Answer(Verdict.FINISHED, values, -1.0, {})


def not_a_number(backend: str, program: object, request: Request) -> Answer:
    values = {v.name: float("nan") for v in program.variables()}
    return Answer(Verdict.FINISHED, values, float("nan"), {})


SILENT = (stopped,)
LOUD = (crash, infeasible, unbounded, fractional, not_a_number)


@pytest.mark.parametrize("fake", [*SILENT, *LOUD])
def test_a_failed_search_leaves_no_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fake: Fake
) -> None:
    pretend(monkeypatch, fake)
    with caplog.at_level(logging.WARNING):
        found = PURE(problem(), None)
    assert (found.status, found.counts) == (Status.NONE, ())
    assert bool(caplog.records) == (fake in LOUD)


@pytest.mark.parametrize("fake", [stopped, crash, unbounded, fractional, not_a_number])
def test_a_failed_search_falls_back_to_the_start(
    monkeypatch: pytest.MonkeyPatch, fake: Fake
) -> None:
    start = problem().smallest()
    pretend(monkeypatch, fake)
    found = PURE(problem(), start)
    assert (found.status, found.counts) == (Status.FEASIBLE, start)
    assert found.bound is not None and found.bound >= found.objective


def test_everything_on_is_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_on(backend: str, program: object, request: Request) -> Answer:
        values = {v.name: 1.0 for v in program.variables()}
        return Answer(Verdict.FINISHED, values, None, {})

    pretend(monkeypatch, all_on)
    found = PURE(problem(), None)
    assert not problem().violated(found.counts)
    assert found.gap is not None and found.gap < 0.05


def test_a_bound_below_the_own_solution_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lying(backend: str, program: object, request: Request) -> Answer:
        answer = REAL_RUN(backend, program, request)
        return Answer(answer.verdict, answer.values, 0.0, {})

    pretend(monkeypatch, lying)
    best = PURE(problem(), None)
    assert "below its own solution" in caplog.text
    assert best.bound is not None and best.bound > best.objective


def test_a_crash_in_the_relaxation_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "run", crash)
    start = Greedy()(problem(), None)
    found = PURE(problem(), start.counts)
    assert (found.status, found.counts) == (Status.FEASIBLE, start.counts)


def test_foreign_exceptions_become_solver_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(program: object, request: Request) -> Answer:
        raise OSError("no such file: cbc")

    monkeypatch.setattr(backends, "BACKENDS", {"cbc": broken})
    with pytest.raises(SolverError, match="back end cbc failed: no such file"):
        REAL_RUN("cbc", formulate(problem()).program, Request(True, 0.0, 1.0, 1))


def test_cbc_ends_soon_after_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Greedy()(problem(), None)
    monkeypatch.setattr(backends, "GRACE", 0.1)
    monkeypatch.setattr(subprocess, "Popen", sleeping)
    begin = time.monotonic()
    found = Milp("cbc", gap=0.0, time_limit=1.0, relaxation=False)(problem(), start.counts)
    assert time.monotonic() - begin < 30
    assert (found.status, found.counts) == (Status.FEASIBLE, start.counts)
    assert found.proof == "lp relaxation (cbc)"


def test_a_doubt_whether_infeasible_or_unbounded_is_read_as_infeasible() -> None:
    request = Request(True, 0.0, 1.0, 1)
    for log, verdict in (
        ("Pre-processing says infeasible or unbounded", Verdict.INFEASIBLE),
        ("Result - Linear relaxation unbounded", Verdict.UNBOUNDED),
        ("Result - Problem proven infeasible", Verdict.INFEASIBLE),
    ):
        assert backends._read_cbc(formulate(problem()).program, request, log).verdict is verdict
    with pytest.raises(SolverError, match="without a result"):
        backends._read_cbc(formulate(problem()).program, request, "Segmentation fault")


@each_backend
def test_one_choice_that_is_left_is_the_proven_answer(backend: str) -> None:
    """Back ends can't say anything about a problem without variables."""
    n = Linear(0, ((0, 1),))
    twice = Linear(0, ((0, 2),))
    costs = {
        "flops": Polynomial.of([(3, [n]), (1, [twice, Linear(1, ((0, 2),))])]),
        "params": Polynomial.of([(5, [n, n, Linear(1, ((0, 1),))])]),
    }
    limits = (Limit("flops", 115), Limit("params", 882))
    values = np.array([0, 0.786, 0.971, 2.241, 5.930, 6.007, 10.324])
    single = Problem(("e",), (values,), (np.arange(1, 7),), costs, limits)
    found = Milp(backend, gap=0.0)(single, None)
    assert (found.status, found.counts, found.bound) == (Status.OPTIMAL, (4,), 5.930)


def test_a_missing_executable_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    import pulp

    monkeypatch.setattr(pulp.COIN_CMD, "executable", staticmethod(lambda command: None))
    found = Milp("cbc", relaxation=False)(problem(), None)
    assert found.status is Status.NONE


def test_auto_takes_cbc_without_highs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert backends.choose("auto") == "cbc"
    with pytest.raises(MissingDependencyError, match=r"pip install prunec\[highs\]"):
        Milp("highs")(problem(), None)


def test_unknown_back_ends_are_named() -> None:
    with pytest.raises(UsageError, match="unknown back end 'gurobi'"):
        Milp("gurobi")(problem(), None)


@pytest.mark.parametrize("options", [{"gap": -0.1}, {"time_limit": float("nan")}, {"threads": 0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be at least"):
        Milp(**options)
    if "threads" not in options:
        with pytest.raises(UsageError, match="must be at least"):
            Auto(**options)

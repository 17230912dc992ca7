"""Rows of a peak: only those that can be the highest are left, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import feasible
from instances import general, problem_of, score_sums

from prunec.compiler.cost import Linear, Peak, Polynomial
from prunec.compiler.problem import Limit, Problem
from prunec.passes.solvers import rows
from prunec.passes.solvers.rows import without_idle_rows

A, B = (Linear(0, ((e, 1),)) for e in (0, 1))


def peak(*moments: Polynomial) -> Problem:
    values, levels = [score_sums([2.0, 1.0])] * 2, [np.arange(3)] * 2
    return problem_of(values, levels, {"memory": Peak(moments)}, [Limit("memory", 10)])


@pytest.mark.parametrize("seed", range(60))
def test_the_same_choices_are_feasible(seed: int) -> None:
    problem = general(seed)
    left = without_idle_rows(problem)
    assert list(feasible(left)) == list(feasible(problem))
    assert len(left.rows) <= len(problem.rows)


def test_a_row_below_another_is_left_out() -> None:
    high, low = Polynomial.of([(9, (A,)), (2, (B,))]), Polynomial.of([(7, (A,)), (1, (B,))])
    across = Polynomial.of([(1, (A,)), (8, (B,))])
    left = without_idle_rows(peak(low, high, across)).costs["memory"]
    assert left.rows == (high, across)


def test_of_equal_rows_one_is_left() -> None:
    same = Polynomial.of([(9, (A, B))])
    assert without_idle_rows(peak(same, same)).costs["memory"].rows == (same,)


def test_a_row_that_always_holds_is_left_out() -> None:
    small, large = Polynomial.of([(1, (A,))]), Polynomial.of([(9, (B,))])
    assert without_idle_rows(peak(small, large)).costs["memory"].rows == (large,)


def test_rows_that_expand_into_too_much_are_all_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MONOMIALS", 1)
    high, low = Polynomial.of([(9, (A,)), (2, (B,))]), Polynomial.of([(7, (A,)), (1, (B,))])
    assert without_idle_rows(peak(low, high)).costs["memory"].rows == (low, high)

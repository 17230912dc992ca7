"""The selection problem's own words: what is allowed, and which choice is the smallest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prunec.compiler.cost import Linear, Polynomial, Table, Tabled
from prunec.compiler.problem import Limit, Problem

FIRST, SECOND = (Linear(0, ((e, 1),)) for e in (0, 1))
WIDTHS = np.arange(1, 5)


def problem(*levels: list[int], together: tuple[tuple[int, ...], ...] = ((0, 1),)) -> Problem:
    return Problem(
        names=tuple(f"w{e}:0" for e in range(len(levels))),
        values=tuple(np.arange(5.0) for _ in levels),
        levels=tuple(np.array(level) for level in levels),
        costs={"flops": Polynomial.of([(1, (FIRST, SECOND))])},
        limits=(Limit("flops", 8),),
        together=together,
    )


@pytest.mark.parametrize(
    ("counts", "allowed"),
    [((0, 0), True), ((2, 4), True), ((0, 2), False), ((2, 0), False), ((3, 4), False)],
)
def test_sets_are_not_torn_and_counts_are_levels(counts: tuple[int, int], allowed: bool) -> None:
    assert problem([0, 2, 4], [0, 2, 4]).allowed(counts) == allowed


def test_feasible_is_allowed_and_within_the_limits() -> None:
    posed = problem([0, 2, 4], [0, 2, 4])
    assert [posed.feasible(n) for n in ((2, 4), (4, 4), (0, 4))] == [True, False, False]


@pytest.mark.parametrize(
    ("levels", "smallest"),
    [(([0, 2], [0, 4]), (0, 0)), (([0, 2], [4]), (2, 4)), (([1, 2], [0, 1, 3]), (1, 1))],
)
def test_the_smallest_choice_goes_together(
    levels: tuple[list[int], ...], smallest: tuple[int, ...]
) -> None:
    assert problem(*levels).smallest() == smallest
    assert problem(*levels).allowed(smallest)


def test_a_set_that_cannot_go_together_is_seen() -> None:
    posed = problem([0], [2, 4])
    assert not posed.allowed(posed.smallest())


@pytest.mark.parametrize(
    ("values", "monotone"), [([3.0, 1.0, 2.0, 4.0], False), ([1.0, 2.0, 2.0, 4.0], True)]
)
def test_a_table_that_falls_is_not_monotone(values: list[float], monotone: bool) -> None:
    exact = problem([1, 4], [1, 4], together=())
    latency = Tabled(Polynomial(()), (Table((FIRST,), (WIDTHS,), np.array(values)),))
    limits = (Limit("latency", 3),)
    measured = replace(exact, costs={"latency": latency}, limits=limits)
    assert exact.monotone
    assert measured.monotone == monotone

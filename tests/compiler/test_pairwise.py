from __future__ import annotations

import numpy as np
import pytest

from prunec.compiler.cost import Linear, Polynomial
from prunec.compiler.hypergraph import KEPT, Join
from prunec.compiler.pairwise import Block, PairwiseProblem, PairwiseSolution
from prunec.compiler.problem import Limit, Status

MACS = Polynomial.of([(10, (Linear(0, ((0, 1),)), Linear(1, ((1, 1),))))])


def problem(**changes: object) -> PairwiseProblem:
    """Hyperedges of 3 and 2 groups: groups 0, 1, 2 and 3, 4."""
    fields = {
        "names": ("a", "b"),
        "linear": np.array([1.0, 0, 0, 0, 2.0]),
        "blocks": (
            Block(0, 1, np.array([[1.0, 2], [3, 4], [5, 6]])),
            Block(0, 0, np.array([[0, 10.0, 0], [20, 0, 0], [0, 0, 0]])),
        ),
        "levels": (np.array([1, 3]), np.array([1, 2])),
        "costs": {"flops": MACS},
        "limits": (Limit("flops", 60),),
        "constant": 100.0,
    }
    return PairwiseProblem(**{**fields, **changes})


def mask(*kept: int) -> np.ndarray:
    out = np.zeros(5, bool)
    out[list(kept)] = True
    return out


@pytest.mark.parametrize(
    ("kept", "value"),
    [((), 100.0), ((0, 3), 102.0), ((0, 1, 4), 139.0), ((0, 1, 2, 3, 4), 154.0)],
)
def test_the_objective_sums_pairs_and_single_groups(kept: tuple[int, ...], value: float) -> None:
    assert problem().objective(mask(*kept)) == value


def test_counts_and_sizes() -> None:
    assert problem().sizes == (3, 2)
    assert problem().counts(mask(0, 2, 4)) == (2, 1)
    assert problem().dense().all()


def test_a_valid_mask_has_no_faults() -> None:
    assert problem().faults(mask(1, 3)) == []


@pytest.mark.parametrize(
    ("kept", "word"),
    [((0, 1, 2, 3, 4), "limit of flops"), ((0, 1, 3), "a: 2 is no level"), ((0,), "b: 0 is no")],
)
def test_limits_and_levels_are_checked(kept: tuple[int, ...], word: str) -> None:
    assert any(word in fault for fault in problem().faults(mask(*kept)))


@pytest.mark.parametrize(
    ("kept", "broken"),
    [
        ((1, 3), False),  # the result and its owned operand
        ((2, 3), True),  # operand 2 is owned and position 1 of the result is gone
        ((1, 4), True),  # the result keeps position 1, no operand does
        ((1, 2, 4), True),  # operand 1 is owned and position 0 of the result is gone
        ((1, 2, 3, 4), False),
    ],
)
def test_joins_are_checked(kept: tuple[int, ...], broken: bool) -> None:
    own = Join("add", np.array([3, 4]), (np.array([1, 2]),), (True,))
    levels = (np.arange(4), np.arange(3))
    faults = problem(joins=(own,), levels=levels).faults(mask(*kept))
    assert bool(faults) is broken


def test_what_never_leaves_satisfies_joins() -> None:
    own = Join("add", np.array([3, 4]), (np.array([KEPT, KEPT]), np.array([0, 1])), (True, False))
    levels = (np.arange(4), np.arange(3))
    assert problem(joins=(own,), levels=levels).faults(mask(3, 4)) == []


def test_a_branch_leaves_as_a_whole() -> None:
    levels = (np.arange(4), np.arange(3))
    split = problem(levels=levels, together=((0, 1),))
    assert split.faults(mask()) == []
    assert split.faults(mask(3)) == ["a: only a part of a branch is left"]


def test_the_gap_needs_a_bound_and_a_choice() -> None:
    found = PairwiseSolution(mask(0, 3), 90.0, 100.0, Status.FEASIBLE, "x")
    assert found.gap == pytest.approx(0.1)
    assert PairwiseSolution(mask(0), 90.0, None, Status.FEASIBLE, "x").gap is None
    assert PairwiseSolution(np.zeros(0, bool), 0.0, 100.0, Status.NONE, "x").gap is None

"""Members into groups: the exact assignment, and exchanges beside it."""

from __future__ import annotations

import numpy as np
import pytest

from prunec.passes.regroup.assign import assigned, exchanged, pairings, placed


def total(gains: np.ndarray, ids: np.ndarray) -> float:
    return float(gains[np.arange(len(ids)), ids].sum())


@pytest.mark.parametrize("groups", [1, 2, 3, 5, 8])
def test_every_two_groups_meet_once_and_nobody_twice_in_a_round(groups: int) -> None:
    rounds = [list(zip(a.tolist(), b.tolist(), strict=True)) for a, b in pairings(groups)]
    met = sorted(tuple(sorted(pair)) for own in rounds for pair in own)
    assert met == [(a, b) for a in range(groups) for b in range(a + 1, groups)]
    assert all(len({g for pair in own for g in pair}) == 2 * len(own) for own in rounds)


def test_exchanges_of_two_groups_are_exact() -> None:
    gains = np.random.default_rng(0).random((40, 2))
    start = np.arange(40) % 2
    best = total(gains, placed(gains, np.array([20, 20])))
    assert total(gains, exchanged(gains, start)) == pytest.approx(best)


def test_exchanges_come_near_the_assignment_and_keep_sizes() -> None:
    gains = np.random.default_rng(1).random((90, 6))
    start = np.repeat(np.arange(6), [5, 10, 15, 20, 25, 15])
    found = exchanged(gains, start)
    assert (np.bincount(found) == np.bincount(start)).all()
    best = total(gains, placed(gains, np.bincount(start)))
    assert 0.98 * best < total(gains, found) <= best + 1e-9


def test_nothing_moves_where_nothing_gains() -> None:
    start = np.arange(12) % 4
    assert (exchanged(np.ones((12, 4)), start) == start).all()


def test_large_assignments_start_from_what_is_there() -> None:
    gains = np.random.default_rng(2).random((400, 4))
    start = np.arange(400) % 4
    assert (assigned(gains, start) == exchanged(gains, start)).all()
    assert (assigned(gains[:40], start[:40]) == placed(gains[:40], np.full(4, 10))).all()

"""Small matrices by looking at every partition of one side."""

from __future__ import annotations

import numpy as np
import pytest
from known_matrices import C6, R8, partitions

from prunec.passes.regroup.blocks import kept_sum
from prunec.passes.regroup.exact import exact_blocks, number_of_partitions, solvable


@pytest.mark.parametrize(("size", "groups"), [(4, 2), (6, 3), (6, 2), (8, 4), (5, 5), (3, 1)])
def test_partitions_are_counted(size: int, groups: int) -> None:
    every = list(partitions(tuple(range(size)), size // groups))
    assert number_of_partitions(size, groups) == len(every)


def test_both_sides_can_be_the_small_one() -> None:
    score = np.random.default_rng(0).random((6, 12))
    sums = [kept_sum(s, *exact_blocks(s, 3)) for s in (score, score.T)]
    assert sums[0] == pytest.approx(sums[1])


def test_the_known_optima() -> None:
    assert [kept_sum(R8, *exact_blocks(R8, g)) for g in (2, 4)] == [202, 122]
    assert kept_sum(C6, *exact_blocks(C6, 3)) == 97


def test_one_input_per_group_is_an_assignment() -> None:
    score = np.random.default_rng(1).random((24, 12))
    rows, columns = exact_blocks(score, 12)
    assert (np.bincount(rows) == 2).all()
    assert columns.tolist() == list(range(12))


def test_large_ones_are_not_tried() -> None:
    assert solvable(16, 2)
    assert not solvable(18, 2)
    assert not solvable(16, 4)

"""How many groups a convolution can have."""

from __future__ import annotations

import pytest

from prunec.compiler.errors import UsageError
from prunec.passes.regroup.candidates import Bounds, candidates, common_divisors, groups_of_width


def test_common_divisors_are_sorted_and_begin_with_one() -> None:
    assert common_divisors(64, 48) == (1, 2, 4, 8, 16)
    assert common_divisors(16, 3) == (1,)


def test_widths_bound_both_sides() -> None:
    assert candidates(64, 32, Bounds(min_width=4)) == (1, 2, 4, 8)
    assert candidates(64, 32, Bounds(min_width=64)) == (1,)


def test_the_number_of_groups_is_bounded() -> None:
    assert candidates(24, 24, Bounds(max_groups=6)) == (1, 2, 3, 4, 6)


def test_depthwise_may_be_forbidden_where_it_is_meant() -> None:
    assert candidates(8, 8, Bounds(depthwise=False)) == (1, 2, 4)
    assert candidates(16, 8, Bounds(depthwise=False)) == (1, 2, 4, 8)
    assert candidates(8, 8, Bounds()) == (1, 2, 4, 8)


@pytest.mark.parametrize(
    ("outputs", "inputs", "width", "groups"), [(16, 32, 8, 4), (64, 32, 8, 8), (16, 24, 6, 4)]
)
def test_channels_per_group_as_published(
    outputs: int, inputs: int, width: int, groups: int
) -> None:
    assert groups_of_width(outputs, inputs, width) == groups


def test_channels_per_group_that_do_not_divide_are_an_error() -> None:
    with pytest.raises(UsageError, match="no equal groups of 4 channels"):
        groups_of_width(16, 24, 4)
    with pytest.raises(UsageError):
        groups_of_width(16, 24, 10)


def test_no_more_channels_than_a_group_may_have_stay_together() -> None:
    assert groups_of_width(16, 8, 32) == 1
    assert groups_of_width(16, 8, 16) == 1

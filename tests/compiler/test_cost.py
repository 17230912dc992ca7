"""Costs as polynomials in kept counts."""

from __future__ import annotations

import numpy as np
import pytest

from prunec.compiler.cost import Linear, Peak, Polynomial, Table, Tabled


def test_leaving_out_each_hyperedge_is_the_cost_with_its_count_zero() -> None:
    a, b, both = Linear(0, ((0, 1),)), Linear(2, ((1, 3),)), Linear(1, ((0, 1), (1, 1)))
    cost = Polynomial.of([(9, (a, b)), (2, (both, both)), (0.25, (a,)), (7, ())])
    counts = [5, 4, 3]
    apart = [[0, 4, 3], [5, 0, 3], [5, 4, 0]]
    assert cost.without_each(counts) == tuple(cost(c) for c in apart)


def test_the_gradient_is_the_cost_of_one_more_channel() -> None:
    a, b, both = Linear(0, ((0, 1),)), Linear(2, ((1, 3),)), Linear(1, ((0, 2), (1, 1)))
    linear_in_each = Polynomial.of([(9, (a, b)), (5, (both,)), (7, ())])
    counts = [5, 4]
    steps = [linear_in_each(c) - linear_in_each(counts) for c in ([6, 4], [5, 5])]
    np.testing.assert_allclose(linear_in_each.gradient(counts), steps)
    square = Polynomial.of([(1, (a, a))])
    np.testing.assert_allclose(square.gradient(counts), [2 * 5, 0])


def staircase() -> Table:
    """Over one factor 2 n_0, dearer at 6 than at 8, and one factor n_1."""
    points = (np.array([2, 6, 8]), np.array([1, 3]))
    values = np.array([[1.0, 2.0], [9.0, 10.0], [5.0, 7.0]])
    return Table((Linear(0, ((0, 2),)), Linear(0, ((1, 1),))), points, values)


@pytest.mark.parametrize(
    ("counts", "value"),
    [([1, 1], 1), ([3, 3], 10), ([2, 1], 5), ([4, 2], 6), ([9, 9], 7), ([0, 3], 0), ([3, 0], 0)],
)
def test_a_table_is_linear_between_its_points_and_flat_beyond(counts, value: float) -> None:
    assert staircase()(counts) == value


def test_all_combinations_of_sizes_at_once_are_the_single_values() -> None:
    table, sizes = staircase(), (np.array([0, 2, 5, 8, 20]), np.array([0, 1, 2, 7]))
    single = [
        [float(table.at([np.array([m]), np.array([n])]).item()) for n in sizes[1]] for m in sizes[0]
    ]
    np.testing.assert_allclose(table.at(sizes), single)


def test_a_sum_with_tables_is_rounded_up_once() -> None:
    cost = Tabled(Polynomial.of([(0.25, (Linear(0, ((2, 1),)),))]), (staircase(),))
    assert cost([2, 1, 1]) == 6  # 5 + 1/4
    assert cost.edges() == {0, 1, 2}
    assert cost.without_each([2, 1, 1]) == (1, 1, 5)
    assert cost.rows == (cost,)


def test_a_peak_is_its_largest_moment() -> None:
    a, b = (Polynomial.of([(k, (Linear(0, ((e, 1),)),))]) for e, k in enumerate((2, 5)))
    peak = Peak((a, b))
    assert (peak([4, 1]), peak([1, 4])) == (8, 20)
    assert peak.without_each([4, 1]) == (5, 8)
    assert peak.rows == (a, b)
    assert peak.edges() == {0, 1}

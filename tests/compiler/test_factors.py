"""Which factor of a merged or split axis stays removable."""

from __future__ import annotations

import numpy as np

from prunec.compiler.factors import settle
from prunec.compiler.freedom import Freedom
from prunec.compiler.labels import Coupler
from prunec.compiler.reasons import Reason


def roots(c: Coupler, *arrays: np.ndarray) -> list[list[int]]:
    return [c.find(a).tolist() for a in arrays]


def test_a_merge_keeps_the_factor_that_leaves_more_groups() -> None:
    c = Coupler()
    small, large, cells = c.fresh(2), c.fresh(5), c.fresh(10)
    c.factor(cells, [small, large])
    settle(c)
    assert roots(c, small) == [[0, 0]]
    assert np.array_equal(c.find(cells).reshape(2, 5), np.broadcast_to(large, (2, 5)))


def test_equal_factors_leave_the_first_one_removable() -> None:
    c = Coupler()
    first, second, cells = c.fresh(3), c.fresh(3), c.fresh(9)
    c.factor(cells, [first, second])
    settle(c)
    assert roots(c, second) == [[0, 0, 0]]
    assert c.find(first).all()


def test_ties_made_after_a_factor_count_for_its_choice() -> None:
    c = Coupler()
    small, large, cells = c.fresh(2), c.fresh(5), c.fresh(10)
    c.factor(cells, [small, large])
    c.freeze(large, Reason.FIXED_AXIS, "late")
    settle(c)
    assert c.find(small).all()
    assert np.array_equal(c.find(cells).reshape(2, 5).T, np.broadcast_to(small, (5, 2)))


def test_cells_that_stay_freeze_their_factors() -> None:
    c = Coupler()
    a, b, cells = c.fresh(2), c.fresh(3), c.fresh(6)
    c.factor(cells, [a, b])
    c.freeze(cells, Reason.FIXED_AXIS, "read by an output")
    settle(c)
    assert not c.find(np.concatenate([a, b])).any()


def test_factors_that_all_stay_freeze_their_cells() -> None:
    c = Coupler()
    a, b, cells = c.fresh(2), c.fresh(3), c.fresh(6)
    c.factor(cells, [a, b])
    c.freeze(a, Reason.FIXED_AXIS, "x")
    c.freeze(b, Reason.FIXED_AXIS, "y")
    settle(c)
    assert not c.find(cells).any()


def test_a_split_that_is_merged_back_stays_free_within_its_choice() -> None:
    c = Coupler()
    source, rows, columns, merged = c.fresh(6), c.fresh(2), c.fresh(3), c.fresh(6)
    c.factor(source, [rows, columns])
    c.factor(merged, [rows, columns])
    settle(c)
    assert np.array_equal(c.find(source), c.find(merged))
    assert len(set(c.find(source).tolist())) == 3


def test_an_empty_factor_is_passed_over() -> None:
    c = Coupler()
    c.factor(c.fresh(0), [c.fresh(0), c.fresh(3)])
    settle(c)
    assert c.ties == []


def test_a_resize_of_frozen_axes_is_not_recorded() -> None:
    c = Coupler()
    c.resize("group", 4, {0: c.frozen(4)})
    c.resize(1, np.array([4, 5]), {0: c.frozen(4), 1: c.fresh(5)})
    (patch,) = c.patches
    assert [k for k, _ in patch.elements] == [1]


def attention(c: Coupler) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A projection of 12 split into 3 heads of 4, merged with a batch of 2, and used by heads."""
    projection, heads, columns, merged = c.fresh(12), c.fresh(3), c.fresh(4), c.fresh(6)
    c.factor(projection, [heads, columns])
    c.factor(merged, [c.frozen(2), heads])
    c.head(merged)
    return projection, heads, columns


def test_positions_within_heads_leave_by_default() -> None:
    c = Coupler()
    projection, heads, columns = attention(c)
    settle(c)
    assert not c.find(heads).any()
    assert np.array_equal(c.find(projection).reshape(3, 4)[2], c.find(columns))


def test_heads_leave_on_request_even_behind_a_merge_with_the_batch() -> None:
    c = Coupler(Freedom(heads=True))
    projection, heads, columns = attention(c)
    settle(c)
    assert not c.find(columns).any()
    assert np.array_equal(c.find(projection).reshape(3, 4)[:, 3], c.find(heads))


def test_heads_leave_where_positions_within_them_may_not() -> None:
    c = Coupler()
    _, heads, columns = attention(c)
    c.freeze(columns, Reason.SOFTMAX_AXIS, "a softmax runs over it")
    settle(c)
    assert c.find(heads).all()


def test_an_axis_remembers_what_it_is_made_of() -> None:
    c = Coupler()
    a, b = c.fresh(2), c.fresh(3)
    whole = c.fresh(6)
    assert c.composition(whole) is None
    c.compose(whole, [a, b])
    assert c.composition(whole) == (a, b)
    assert c.composition(whole.copy()) is None

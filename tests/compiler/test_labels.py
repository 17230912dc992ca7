from __future__ import annotations

import numpy as np
import pytest

from prunec.compiler.labels import Coupler


def roots(c: Coupler, *arrays: np.ndarray) -> list[list[int]]:
    return [c.find(a).tolist() for a in arrays]


def test_fresh_labels_are_tied_to_nothing() -> None:
    c = Coupler()
    assert c.fresh(3).tolist() == [1, 2, 3]
    assert c.find(c.fresh(2)).tolist() == [4, 5]


def test_more_labels_than_the_first_allocation_keep_their_ties() -> None:
    c = Coupler()
    a = c.fresh(3)
    c.tie(a[:1], a[1:2])
    b = c.fresh(5000)
    assert c.find(a).tolist() == [1, 1, 3]
    assert np.array_equal(c.find(b), b)


def test_ties_broadcast() -> None:
    c = Coupler()
    a, b = c.fresh(2), c.fresh(6)
    c.tie(b.reshape(2, 3), a[:, None])
    assert roots(c, b) == [[1, 1, 1, 2, 2, 2]]


def test_a_chain_of_ties_has_one_representative() -> None:
    c = Coupler()
    a = c.fresh(1000)
    c.tie(a[:-1], a[1:])
    assert set(c.find(a).tolist()) == {1}


@pytest.mark.parametrize("seed", range(5))
def test_ties_give_the_components_of_a_graph(seed: int) -> None:
    rng = np.random.default_rng(seed)
    c = Coupler()
    labels = c.fresh(60)
    color = np.arange(61)
    for _ in range(8):
        left, right = rng.choice(labels, 5), rng.choice(labels, 5)
        c.tie(left, right)
        for a, b in zip(left, right, strict=True):  # the slow way
            color[color == color[a]] = color[b]
    found = c.find(np.arange(61))
    assert np.array_equal(found[:, None] == found, color[:, None] == color)


def test_a_frozen_label_freezes_what_is_tied_to_it() -> None:
    c = Coupler()
    a, b = c.fresh(2), c.fresh(2)
    c.tie(a, b)
    c.freeze(b, "why")
    assert roots(c, a) == [[0, 0]]
    assert c.ties[-1].reason == "why"


def test_freezing_what_is_literally_frozen_is_not_recorded() -> None:
    c = Coupler()
    c.freeze(c.frozen(3), "why")
    assert c.ties == []


def test_a_merge_keeps_the_factor_that_leaves_more_groups() -> None:
    c = Coupler()
    small, large, cells = c.fresh(2), c.fresh(5), c.fresh(10)
    c.factor(cells, [small, large])
    c.settle()
    assert roots(c, small) == [[0, 0]]
    assert np.array_equal(c.find(cells).reshape(2, 5), np.broadcast_to(large, (2, 5)))


def test_equal_factors_leave_the_first_one_removable() -> None:
    c = Coupler()
    first, second, cells = c.fresh(3), c.fresh(3), c.fresh(9)
    c.factor(cells, [first, second])
    c.settle()
    assert roots(c, second) == [[0, 0, 0]]
    assert c.find(first).all()


def test_ties_made_after_a_factor_count_for_its_choice() -> None:
    c = Coupler()
    small, large, cells = c.fresh(2), c.fresh(5), c.fresh(10)
    c.factor(cells, [small, large])
    c.freeze(large, "late")
    c.settle()
    assert c.find(small).all()
    assert np.array_equal(c.find(cells).reshape(2, 5).T, np.broadcast_to(small, (5, 2)))


def test_cells_that_stay_freeze_their_factors() -> None:
    c = Coupler()
    a, b, cells = c.fresh(2), c.fresh(3), c.fresh(6)
    c.factor(cells, [a, b])
    c.freeze(cells, "read by an output")
    c.settle()
    assert not c.find(np.concatenate([a, b])).any()


def test_factors_that_all_stay_freeze_their_cells() -> None:
    c = Coupler()
    a, b, cells = c.fresh(2), c.fresh(3), c.fresh(6)
    c.factor(cells, [a, b])
    c.freeze(a, "x")
    c.freeze(b, "y")
    c.settle()
    assert not c.find(cells).any()


def test_a_split_that_is_merged_back_stays_free_within_its_choice() -> None:
    c = Coupler()
    source, rows, columns, merged = c.fresh(6), c.fresh(2), c.fresh(3), c.fresh(6)
    c.factor(source, [rows, columns])
    c.factor(merged, [rows, columns])
    c.settle()
    assert np.array_equal(c.find(source), c.find(merged))
    assert len(set(c.find(source).tolist())) == 3


def test_an_empty_factor_is_passed_over() -> None:
    c = Coupler()
    c.factor(c.fresh(0), [c.fresh(0), c.fresh(3)])
    c.settle()
    assert c.ties == []


def test_a_resize_of_frozen_axes_is_not_recorded() -> None:
    c = Coupler()
    c.resize("group", 4, {0: c.frozen(4)})
    c.resize(1, np.array([4, 5]), {0: c.frozen(4), 1: c.fresh(5)})
    (patch,) = c.patches
    assert [k for k, _ in patch.elements] == [1]  # type: ignore[union-attr]

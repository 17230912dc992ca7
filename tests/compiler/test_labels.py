from __future__ import annotations

import numpy as np
import pytest

from prunec.compiler.labels import Coupler
from prunec.compiler.reasons import Reason


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
    c.freeze(b, Reason.FIXED_AXIS, "why")
    assert roots(c, a) == [[0, 0]]
    assert c.ties[-1].reason == "why"


def test_freezing_what_is_literally_frozen_is_not_recorded() -> None:
    c = Coupler()
    c.freeze(c.frozen(3), Reason.FIXED_AXIS, "why")
    assert c.ties == []

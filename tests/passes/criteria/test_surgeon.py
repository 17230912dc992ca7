"""Elimination of channel groups against solving every candidate again from scratch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prunec.passes.criteria.surgeon import Reader, eliminate, narrow, rising


class Problem:
    """Samples x of n groups of b rows, and a weight that reads them."""

    def __init__(self, n: int, b: int, m: int, seed: int, factor: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        rows = n * b
        mixed = rng.normal(size=(6 * rows, rows)) @ rng.normal(size=(rows, rows))
        self.x = mixed + 0.3 * rng.normal(size=mixed.shape)
        self.weight = rng.normal(size=(rows, m))
        self.n, self.b, self.factor = n, b, factor

    def reader(self) -> Reader:
        inverse = np.linalg.inv(self.x.T @ self.x)
        return Reader(inverse, self.weight, np.arange(self.n), self.factor)

    def error(self, gone: set[int]) -> float:
        """What least squares over the other rows leaves of the output."""
        rest = [r for r in range(self.n * self.b) if r // self.b not in gone]
        target = self.x @ self.weight
        if not rest:
            return self.factor * float((target**2).sum())
        found = np.linalg.lstsq(self.x[:, rest], target, rcond=None)[0]
        return self.factor * float(((target - self.x[:, rest] @ found) ** 2).sum())


@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize("m", [2, 20])
def test_every_step_removes_what_least_squares_misses_least(b: int, m: int) -> None:
    readers = [Problem(5, b, m, seed) for seed in (0, 1)]
    readers[1].factor = 3.0
    order, added = eliminate(5, [p.reader() for p in readers])
    gone: set[int] = set()
    before = 0.0
    for group, error in zip(order.tolist(), added.tolist(), strict=True):
        totals = {j: sum(p.error(gone | {j}) for p in readers) for j in range(5) if j not in gone}
        assert totals[group] == pytest.approx(min(totals.values()), rel=1e-6)
        assert error == pytest.approx(totals[group] - before, rel=1e-5)
        before = totals[group]
        gone.add(group)


def test_of_two_equal_channels_one_leaves_for_nothing_and_the_other_does_not() -> None:
    problem = Problem(6, 1, 4, 2)
    problem.x[:, 3] = problem.x[:, 1]
    inverse = np.linalg.inv(problem.x.T @ problem.x + 1e-6 * np.eye(6))
    order, added = eliminate(6, [Reader(inverse, problem.weight, np.arange(6), 1.0)])
    assert order[0] in (1, 3)
    assert added[0] < 1e-4 * added[1:].min()


def test_a_reader_of_some_groups_solves_them_with_the_rows_of_others() -> None:
    problem = Problem(6, 2, 3, 4)
    inverse = np.linalg.inv(problem.x.T @ problem.x)[4:10, 4:10]  # groups 2, 3, 4
    reader = Reader(inverse, problem.weight[4:10], np.array([0, 1, 3]), 1.0)
    order, added = eliminate(4, [reader])
    assert order[0] == 2  # nobody reads it
    assert added[0] == 0
    back = {0: 2, 1: 3, 3: 4}
    gone = {back[int(j)] for j in order[1:]}
    assert added.sum() == pytest.approx(problem.error(gone), rel=1e-6)


def test_a_reader_may_lose_all_its_groups_before_others_do() -> None:
    first, second = Problem(2, 1, 3, 6, 1e-6), Problem(4, 1, 3, 7)
    readers = [replace(first.reader(), groups=np.array([1, 3])), second.reader()]
    _, added = eliminate(4, readers)
    whole = first.error({0, 1}) + second.error({0, 1, 2, 3})
    assert added.sum() == pytest.approx(whole, rel=1e-5)


def test_batches_add_up_to_the_error_of_all_that_left() -> None:
    problem = Problem(12, 2, 5, 5)
    order, added = eliminate(12, [problem.reader()], exact_rows=8)
    for k in range(3, 13, 3):
        assert added[:k].sum() == pytest.approx(problem.error(set(order[:k].tolist())), rel=1e-5)


def test_a_narrow_weight_has_the_same_products() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 9))
    assert narrow(weight).shape == (4, 4)
    np.testing.assert_allclose(narrow(weight) @ narrow(weight).T, weight @ weight.T)


def test_scores_rank_as_the_groups_left() -> None:
    scores = rising(np.array([1.0, 5.0, 2.0, 2.0]))
    np.testing.assert_allclose(scores, [1, 5, 5, 5])
    assert (np.diff(scores) > 0).all()
    np.testing.assert_array_equal(rising(np.zeros(3)), np.zeros(3))
    assert rising(np.zeros(0)).shape == (0,)

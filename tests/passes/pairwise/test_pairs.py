from __future__ import annotations

import itertools

import numpy as np
import pytest

from prunec.passes.pairwise import pairs
from prunec.passes.pairwise.pairs import largest_singular_value, most, most_within


def best(values: np.ndarray, p: int, r: int) -> float:
    n, m = values.shape
    return max(
        values[np.ix_(u, v)].sum()
        for u in itertools.combinations(range(n), p)
        for v in itertools.combinations(range(m), r)
    )


@pytest.mark.parametrize("tried", [0, 1 << 18])
@pytest.mark.parametrize("seed", range(4))
def test_no_choice_of_rows_and_columns_holds_more(
    seed: int, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "TRIED", tried)
    values = np.random.default_rng(seed).lognormal(0, 1, (5, 4))
    rows, columns = np.arange(6), np.arange(1, 5)
    bound = most(values, rows, columns)
    for i, p in enumerate(rows):
        for j, r in enumerate(columns):
            true = best(values, int(p), int(r))
            assert bound[i, j] >= true - 1e-12
            if tried:
                assert bound[i, j] == pytest.approx(true, rel=1e-5)


def test_what_is_a_sum_of_effects_is_bounded_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "TRIED", 0)
    values = np.arange(1.0, 7)[:, None] + np.array([[0.0, 5.0, 1.0, 3.0]])
    for p, r in ((2, 2), (3, 1), (6, 4)):
        got = most(values, np.array([p]), np.array([r]))[0, 0]
        assert got == pytest.approx(best(values, p, r), rel=1e-5)


@pytest.mark.parametrize("tried", [0, 1 << 18])
def test_pairs_within_one_hyperedge(tried: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "TRIED", tried)
    rng = np.random.default_rng(0)
    values, linear = rng.lognormal(0, 1, (6, 6)), rng.uniform(0, 3, 6)
    np.fill_diagonal(values, 0)
    bound = most_within(values, linear, np.arange(7))
    for k in range(7):
        chosen = map(list, itertools.combinations(range(6), k))
        true = max(values[np.ix_(u, u)].sum() + linear[u].sum() for u in chosen)
        assert bound[k] >= true - 1e-12
        assert not tried or bound[k] == pytest.approx(true, rel=1e-5)


def test_the_singular_value_is_not_below_the_true_one() -> None:
    for seed, shape in enumerate([(3, 9), (9, 3), (1, 1), (20, 20)]):
        matrix = np.random.default_rng(seed).normal(size=shape)
        true = np.linalg.norm(matrix, 2)
        assert true <= largest_singular_value(matrix) <= true * (1 + 1e-6)
    assert largest_singular_value(np.zeros((3, 2))) == 0.0

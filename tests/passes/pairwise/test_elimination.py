from __future__ import annotations

import itertools

import numpy as np
import pytest

from prunec.passes.pairwise.elimination import Elimination

SIZES = [3, 2, 4, 3]
SCOPES = [(0,), (0, 1), (1, 2), (2, 3), (0, 3), (1, 2, 3)]


def tables(seed: int, batch: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(batch if k % 2 else 1, *(SIZES[v] for v in scope)))
        for k, scope in enumerate(SCOPES)
    ]


def value(own: list[np.ndarray], b: int, x: tuple[int, ...]) -> float:
    return sum(
        float(t[(min(b, len(t) - 1), *(x[v] for v in s))]) for t, s in zip(own, SCOPES, strict=True)
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_maximum_and_where_it_is(seed: int) -> None:
    own = tables(seed)
    plan = Elimination(SIZES, SCOPES)
    maxima, values = plan.maximum(own)
    assert plan.exact
    for b in range(5):
        best = max(value(own, b, x) for x in itertools.product(*map(range, SIZES)))
        assert maxima[b] == pytest.approx(best)
        assert value(own, b, tuple(int(v[b]) for v in values)) == pytest.approx(best)


@pytest.mark.parametrize("limit", [1, 8, 12, 24])
def test_small_buckets_give_an_upper_bound(limit: int) -> None:
    own = tables(1)
    plan = Elimination(SIZES, SCOPES, limit)
    maxima, _ = plan.maximum(own)
    exact, _ = Elimination(SIZES, SCOPES).maximum(own)
    assert not plan.exact or limit >= 24
    assert (maxima >= exact - 1e-12).all()


def test_variables_without_tables_are_0() -> None:
    maxima, values = Elimination([2, 3], [(0,)]).maximum([np.array([[1.0, 5.0]])])
    assert maxima.tolist() == [5.0]
    assert [v.tolist() for v in values] == [[1], [0]]

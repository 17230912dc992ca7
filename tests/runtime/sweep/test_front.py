from __future__ import annotations

import numpy as np
import pytest

from prunec.runtime.sweep.front import knee, pareto


@pytest.mark.parametrize("seed", range(10))
def test_the_front_is_what_no_point_beats(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs, losses = rng.integers(0, 8, 12).tolist(), rng.integers(0, 8, 12).tolist()

    def beaten(k: int) -> bool:
        return any(
            costs[j] <= costs[k]
            and losses[j] <= losses[k]
            and ((costs[j], losses[j]) != (costs[k], losses[k]) or j < k)
            for j in range(12)
            if j != k
        )

    front = pareto(costs, losses)
    assert sorted(front) == [k for k in range(12) if not beaten(k)]
    assert [costs[k] for k in front] == sorted(costs[k] for k in front)


def test_an_empty_front() -> None:
    assert pareto([], []) == ()
    assert knee([], []) is None


def test_the_knee_of_a_hyperbola_is_where_its_slope_is_that_of_the_chord() -> None:
    x = np.linspace(0.1, 10, 991)
    # 1 / x on [0.1, 10]: the chord has slope -1, and so has the curve at 1.
    found = knee(x.tolist(), (1 / x).tolist())
    assert found is not None
    assert x[found] == pytest.approx(1.0)


def test_units_do_not_matter() -> None:
    x, y = [1.0, 2.0, 3.0, 6.0], [9.0, 3.0, 2.0, 0.0]
    assert knee(x, y) == knee([1e9 * v for v in x], [1e-3 * v + 7 for v in y]) == 1


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]),  # straight
        ([1.0, 2.0, 3.0], [3.0, 2.9, 1.0]),  # above the chord
        ([1.0, 2.0], [2.0, 1.0]),
    ],
)
def test_no_point_below_the_chord_is_no_knee(x: list[float], y: list[float]) -> None:
    assert knee(x, y) is None

"""Fits of measured times, against published numbers and staircases of known shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from prunec.compiler.latency import (
    MODELS,
    Samples,
    fit_lut,
    linear_solve,
    m5_features,
    m6_features,
    quality,
)


def published_grid() -> tuple[np.ndarray, np.ndarray]:
    """The grid of test T5: a = 1..4 outside, b = 1..8 inside."""
    a, b = (g.ravel() for g in np.meshgrid(np.arange(1, 5), np.arange(1, 9), indexing="ij"))
    noise = 0.002 * ((7 * a + 3 * b) % 5 - 2)
    times = 0.05 + 0.01 * a + 0.02 * b + 0.003 * a * b + noise
    return np.stack([a, b], axis=1).astype(np.int64), times


@pytest.mark.parametrize(
    ("features", "coefficients", "mpe", "r2"),
    [
        (m5_features, [0.13925, -0.01971429, 0.00965873], 0.091427, 0.924109),
        (m6_features, [0.04903571, 0.01035714, 0.02004762, 0.00297619], 0.014062, 0.998332),
    ],
)
def test_the_published_coefficients_are_reproduced(
    features: Callable[[np.ndarray], np.ndarray], coefficients: list[float], mpe: float, r2: float
) -> None:
    sizes, times = published_grid()
    solved = linear_solve(features(sizes.astype(float)), times)
    assert solved == pytest.approx(coefficients, abs=5e-9)
    found = quality(features(sizes.astype(float)) @ solved, times)
    assert (found.mpe, found.r2) == pytest.approx((mpe, r2), abs=5e-7)


@pytest.mark.parametrize("model", ["m5", "m6"])
def test_a_fitted_model_predicts_what_its_coefficients_say(model: str) -> None:
    sizes, seconds = published_grid()
    times = 1e9 * seconds
    features = {"m5": m5_features, "m6": m6_features}[model](sizes.astype(float))
    expected = features @ linear_solve(features, times)
    assert MODELS[model](Samples.of(sizes, times))(sizes) == pytest.approx(expected, rel=1e-9)


def test_singular_normal_equations_get_a_ridge() -> None:
    features = np.ones((3, 2))
    solved = linear_solve(features, np.full(3, 6.0))
    assert solved == pytest.approx([3.0, 3.0], rel=1e-4)


def test_two_factors_of_one_size_each_are_one_point() -> None:
    fit = MODELS["m6"](Samples.of(np.array([[8, 8]]), np.array([5.0])))
    assert fit(np.array([[8, 8]])) == pytest.approx([5.0], rel=1e-3)


def staircase(sizes: np.ndarray) -> np.ndarray:
    """Padded to blocks of 16 and a third dearer where channels are no multiples of 4."""
    blocks = -(-sizes // 16) * 16
    odd = np.where((sizes % 4 != 0).any(axis=1), 1.33, 1.0)
    return (900.0 + 12.0 * blocks.sum(axis=1) + 3.5 * blocks.prod(axis=1)) * odd


def lattice(step: int, most: int = 256) -> np.ndarray:
    own = np.arange(step, most + 1, step)
    return np.stack(np.meshgrid(own, own, indexing="ij"), axis=-1).reshape(-1, 2)


def test_multiples_of_8_that_are_none_of_16_cost_as_the_next_one() -> None:
    every = lattice(8)
    seen = every[np.random.default_rng(0).permutation(len(every))[:120]]
    predicted = fit_lut(Samples.of(seen, staircase(seen)))(every)
    assert np.mean(np.abs(predicted / staircase(every) - 1)) < 0.01
    smooth = MODELS["m6"](Samples.of(seen, staircase(seen)))(every)
    assert np.mean(np.abs(smooth / staircase(every) - 1)) > 0.05


def test_63_and_65_cost_more_than_64() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(16, 129, (4000, 2))
    # Classes are independent here: one side decides.
    sizes[:, 1] = sizes[:, 1] // 16 * 16
    fit = fit_lut(Samples.of(sizes, staircase(sizes)))
    low, even, high = fit(np.array([[63, 64], [64, 64], [65, 64]]))
    true = staircase(np.array([[63, 64], [64, 64], [65, 64]]))
    assert (low / even, high / even) == pytest.approx((true[0] / true[1], true[2] / true[1]), 0.1)


def test_a_cell_without_factors_takes_the_lower_quartile() -> None:
    samples = Samples.of(np.zeros((4, 0), np.int64), np.array([10.0, 12.0, 14.0, 90.0]))
    assert fit_lut(samples)(np.zeros((2, 0), np.int64)) == pytest.approx([11.5, 11.5])


def test_a_prediction_far_from_all_measurements_stays_positive() -> None:
    seen = np.array([[64, 64], [96, 64], [128, 96], [128, 128], [64, 128]])
    predicted = fit_lut(Samples.of(seen, np.array([100.0, 160.0, 300.0, 420.0, 210.0])))
    assert (predicted(np.array([[1, 1], [2048, 2048]])) >= 50).all()


def test_repeated_sizes_become_one_row() -> None:
    samples = Samples.of(np.array([[8], [16], [8]]), np.array([3.0, 9.0, 7.0]))
    assert samples.sizes.tolist() == [[8], [16]]
    assert samples.times.tolist() == [4.0, 9.0]


def test_r2_of_equal_measurements_says_whether_they_are_met() -> None:
    same = np.full(3, 2.0)
    assert quality(same, same).r2 == 1
    assert quality(same + 1, same).r2 == 0


@pytest.mark.parametrize("model", sorted(MODELS))
def test_what_takes_no_time_is_predicted_to_take_none(model: str) -> None:
    sizes = np.array([[8, 8], [16, 8], [16, 16], [8, 16], [32, 16]])
    samples = Samples.of(sizes, np.zeros(5))
    found = MODELS[model](samples)(sizes)
    assert found == pytest.approx(np.ones(5), abs=1e-6)
    assert quality(found, samples.times).mpe == pytest.approx(0, abs=1e-6)

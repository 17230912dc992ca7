from __future__ import annotations

import numpy as np
import pytest

from prunec.passes.recovery.moments import Moments
from prunec.passes.recovery.ridge import LARGE, Prior, ridge

RNG = np.random.default_rng(0)


def drawn(
    rows: int, inputs: int = 5, outputs: int = 3, groups: int = 2, noise: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, y and the matrix and shift between them."""
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((groups, inputs, outputs))
    shift = rng.standard_normal((groups, outputs))
    x = RNG.standard_normal((groups, rows, inputs)) + 1
    y = x @ matrix + shift[:, None] + noise * RNG.standard_normal((groups, rows, outputs))
    return x, y, matrix, shift


def sums(x: np.ndarray, y: np.ndarray) -> Moments:
    made = Moments.empty(len(x), x.shape[2], y.shape[2])
    for part in np.array_split(np.arange(x.shape[1]), 3):
        made.add(x[:, part], y[:, part])
    return made


def prior(matrix: np.ndarray, shift: np.ndarray, intercept: bool = True) -> Prior:
    return Prior(matrix, shift, intercept)


def test_errors_come_from_sums_alone() -> None:
    x, y, matrix, shift = drawn(40, noise=1)
    expected = np.square(y - x @ (matrix + 0.1) - shift[:, None]).sum(1)
    np.testing.assert_allclose(sums(x, y).error(matrix + 0.1, shift), expected, rtol=1e-9)


def test_what_can_be_said_exactly_is_found() -> None:
    x, y, matrix, shift = drawn(60)
    held_x, held_y, _, _ = drawn(20)
    start = prior(np.zeros_like(matrix), np.zeros_like(shift))
    found = ridge(sums(x, y), sums(held_x, held_y), start)
    np.testing.assert_allclose(found.line.matrix, matrix, atol=1e-6)
    np.testing.assert_allclose(found.line.shift, shift, atol=1e-6)


def test_without_an_intercept_the_shift_stays() -> None:
    x, y, matrix, shift = drawn(60)
    start = prior(np.zeros_like(matrix), shift, intercept=False)
    found = ridge(sums(x, y), sums(x, y), start)
    np.testing.assert_array_equal(found.line.shift, shift)
    np.testing.assert_allclose(found.line.matrix, matrix, atol=1e-6)


@pytest.mark.parametrize("refit", [False, True])
def test_the_prior_stays_where_nothing_is_better(refit: bool) -> None:
    x, y, matrix, shift = drawn(60)
    rng = np.random.default_rng(5)
    misleading = sums(x, rng.standard_normal(y.shape) * 50)
    found = ridge(misleading, sums(x, y), prior(matrix, shift), refit=refit)
    assert (found.after <= found.before).all()
    np.testing.assert_array_equal(found.line.matrix, matrix)
    assert np.isinf(found.penalties).all()


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_fewer_rows_than_unknowns_never_hurt_the_held_out(rows: int) -> None:
    x, y, matrix, shift = drawn(rows, inputs=12, noise=0.5)
    held_x, held_y, _, _ = drawn(30, inputs=12, noise=0.5)
    start = prior(matrix + 0.3, shift)
    for refit in (False, True):
        found = ridge(sums(x, y), sums(held_x, held_y), start, refit=refit)
        assert (found.after <= found.before).all()
        assert np.isfinite(found.line.matrix).all()
        now = sums(held_x, held_y).error(found.line.matrix, found.line.shift)
        assert (now <= found.before * (1 + 1e-12)).all()


def test_dead_inputs_keep_their_weights() -> None:
    x, y, matrix, shift = drawn(60)
    x[:, :, 2] = 0
    found = ridge(sums(x, y), sums(x, y), prior(matrix * 0.5, shift))
    np.testing.assert_allclose(found.line.matrix[:, 2], matrix[:, 2] * 0.5, atol=1e-5)


def test_a_given_penalty_is_the_only_one() -> None:
    x, y, matrix, shift = drawn(60, noise=0.1)
    found = ridge(sums(x, y), sums(x, y), prior(matrix * 0, shift), penalties=(0.5,))
    assert set(np.unique(found.penalties)) <= {0.5, 1e30, np.inf}
    assert (found.penalties == 0.5).any()


def test_large_systems_are_solved_otherwise_to_the_same() -> None:
    inputs = LARGE + 1
    x = RNG.standard_normal((1, 2 * inputs, inputs))
    matrix = RNG.standard_normal((1, inputs, 1))
    made = sums(x, x @ matrix)
    found = ridge(made, made, prior(matrix * 0, np.zeros((1, 1))), penalties=(1e-6,), refit=False)
    np.testing.assert_allclose(found.line.matrix, matrix, atol=1e-4)

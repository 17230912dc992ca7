"""Quantisers: published numbers (SEEDS 3.5, Q4 to Q6), and what differs from them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from prunec.compiler.errors import UsageError
from prunec.compiler.quantisation import SMALLEST
from prunec.compiler.spec import describe, parse, render
from prunec.passes.quantize.quantisers import QUANTISERS, Clustered, Line, PowerOfTwo, Scaler
from prunec.passes.quantize.quantisers.clustered import clusters


def ends(*values: float) -> np.ndarray:
    return np.array(values, float)


@pytest.mark.parametrize("name", QUANTISERS)
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_every_quantiser_makes_a_grid_that_holds_zero(name: str, bits: int) -> None:
    low, high = ends(-1, 0, 0.5, -3, 0), ends(2, 1, 1.5, -1, 0)
    grid = QUANTISERS[name]()(low, high, bits, 1)
    assert (grid.bits, grid.axis, grid.scale.shape) == (bits, 1, (5,))
    np.testing.assert_array_equal(grid.fake(np.zeros((2, 5))), 0)
    assert render(parse(name, QUANTISERS, "quantiser")) == name
    assert name in describe(QUANTISERS)


def test_published_scales_are_those_of_the_seed() -> None:
    weight = ends(1, -4, 0.5, 0.25).reshape(2, 2)
    grid = Scaler(legacy_step=True)(weight.min(0), weight.max(0), 8, 1)
    np.testing.assert_array_equal(grid.scale, np.float32([1 / 128, 4 / 128]))
    rows = Scaler(legacy_step=True)(weight.min(1), weight.max(1), 8, 0)
    np.testing.assert_array_equal(rows.scale, np.float32([0.03125, 0.00390625]))


def test_a_scaler_saturates_where_the_seed_lets_codes_grow() -> None:
    grid = Scaler(legacy_step=True)(ends(-1), ends(1), 4)
    x = ends(-2, -1, -0.5, 0, 0.5, 0.99, 1, 2)
    assert grid.fake(x).tolist() == [-1, -1, -0.5, 0, 0.5, 0.875, 0.875, 0.875]


def test_the_usual_step_has_both_ends_exactly() -> None:
    grid = Scaler()(ends(-2), ends(1.5), 4)
    np.testing.assert_allclose(grid.fake(ends(-2, 2)), [-2, 2], rtol=1e-7)
    unsigned = Scaler(unsigned=True)(ends(0), ends(3), 4)
    assert (unsigned.low, unsigned.high) == (0, 15)
    np.testing.assert_allclose(unsigned.fake(ends(3, -1)), [3, 0], rtol=1e-7)
    assert Scaler(unsigned=True)(ends(-0.1), ends(3), 4).signed


def test_published_lines_are_those_of_the_seed() -> None:
    grid = Line(legacy_step=True)(ends(0), ends(1), 4)
    x = ends(-0.2, 0, 0.03, 0.5, 0.97, 1.2)
    np.testing.assert_allclose(grid.fake(x), [0, 0, 0, 0.5, 0.9375, 0.9375], atol=1e-7)
    other = Line(legacy_step=True)(ends(-0.3), ends(0.9), 4)
    x = ends(-0.3, -0.1, 0, 0.5, 0.9)
    np.testing.assert_allclose(other.fake(x), [-0.3, -0.075, 0, 0.525, 0.825], atol=1e-7)


@pytest.mark.parametrize("signed", [False, True])
def test_a_line_reaches_both_ends_with_the_usual_step(signed: bool) -> None:
    grid = Line(signed=signed)(ends(-0.3), ends(0.9), 4)
    assert grid.signed == signed
    low, high = grid.covers()
    np.testing.assert_allclose([low[0], high[0]], [-0.32, 0.88], atol=1e-6)  # zero is rounded
    np.testing.assert_allclose(Line()(ends(0), ends(1), 4).fake(ends(1)), [1], rtol=1e-7)


def test_a_line_is_widened_to_zero() -> None:
    low, high = Line()(ends(2, -3), ends(3, -2), 8, 0).covers()
    np.testing.assert_allclose(low, [0, -3], rtol=1e-6)
    np.testing.assert_allclose(high, [3, 0], rtol=1e-6)


def test_published_powers_of_two_are_those_of_the_seed() -> None:
    grid = PowerOfTwo("nearest")(ends(-1), ends(1), 4)
    assert grid.scale.tolist() == [0.125]
    # The seed cuts codes off, [-.875, -.25, .25, .875]; rounded, the first is nearer.
    assert grid.fake(ends(-0.99, -0.3, 0.3, 0.99)).tolist() == [-1, -0.25, 0.25, 0.875]


def test_powers_of_two_cover_the_range_unless_the_nearest_is_asked_for() -> None:
    low, high = ends(-1.3, -0.9, -1), ends(1.3, 0.9, 1)
    cover, near = PowerOfTwo()(low, high, 8, 0), PowerOfTwo("nearest")(low, high, 8, 0)
    assert np.log2(cover.scale).tolist() == [-6, -7, -6]
    assert np.log2(near.scale).tolist() == [-7, -7, -7]
    assert (cover.covers()[1] >= high).all()


def test_channels_of_a_cluster_share_its_mean() -> None:
    low, high = ends(-1, -1.2, -8, -8.2), ends(0.5, 1.2, 8, 8)
    grid = Clustered(2)(low, high, 8, 0)
    np.testing.assert_allclose(grid.scale * 127, [1.1, 1.1, 8.1, 8.1], rtol=1e-6)
    covering = Clustered(2, cover=True)(low, high, 8, 0)
    np.testing.assert_allclose(covering.scale * 127, [1.2, 1.2, 8.2, 8.2], rtol=1e-6)
    lines = Clustered(2, of="line")(low, high, 8, 0)
    np.testing.assert_allclose(lines.scale * 255, [1.95, 1.95, 16.1, 16.1], rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_ward_merges_what_adds_least_to_the_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(9, 2))
    groups = [[k] for k in range(9)]
    while len(groups) > 4:
        pairs = itertools.combinations(range(len(groups)), 2)
        spread = [
            (_squares(points[groups[a] + groups[b]]) - _squares(points[groups[a]])
             - _squares(points[groups[b]]), a, b)
            for a, b in pairs
        ]  # fmt: skip
        _, a, b = min(spread)
        groups = [g for k, g in enumerate(groups) if k not in (a, b)] + [groups[a] + groups[b]]
    member = clusters(points[:, 0], points[:, 1], 4)
    found = {tuple(np.flatnonzero(member == k)) for k in range(4)}
    assert found == {tuple(sorted(g)) for g in groups}


def _squares(points: np.ndarray) -> float:
    return float(np.square(points - points.mean(0)).sum())


def test_there_are_no_more_clusters_than_channels() -> None:
    grid = Clustered(4)(ends(-1, -2), ends(1, 2), 8, 0)
    np.testing.assert_allclose(grid.scale * 127, [1, 2], rtol=1e-6)
    assert Clustered()(ends(-1), ends(1), 8).scale.shape == (1,)


def test_scales_that_float32_cannot_hold_are_not_used() -> None:
    for quantiser in (Scaler(), Line(), PowerOfTwo(), Clustered()):
        grid = quantiser(ends(-1e-45, 0), ends(1e-44, 0), 16, 0)
        assert (grid.scale >= SMALLEST).all()
        np.testing.assert_array_equal(grid.codes(np.zeros((2, 1))), grid.zero[:, None])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("power-of-two{exponent=near}", "did you mean 'nearest'"),
        ("clustered{groups=0}", "groups must be at least 1"),
        ("clustered{of=lines}", "did you mean 'line'"),
        ("scalar", "did you mean 'scaler'"),
    ],
)
def test_bad_specifications_are_usage_errors(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(spec, QUANTISERS, "quantiser")

"""Ranges: what they see of a stream, in bounded memory."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest

from prunec.compiler.errors import UsageError
from prunec.compiler.quantisation import Grid
from prunec.compiler.spec import describe, parse, render
from prunec.passes.quantize.quantisers import Line, PowerOfTwo, Scaler
from prunec.passes.quantize.ranges import RANGES, Entropy, MinMax, Mse, Percentile
from prunec.passes.quantize.ranges.histogram import BINS, Histogram

RNG = np.random.default_rng(0)
LAPLACE = RNG.laplace(size=(2, 8000)) * np.array([[1.0], [4.0]])


def eight(low: np.ndarray, high: np.ndarray) -> Grid:
    return Line()(low, high, 8, 0)


def found(method: object, *batches: np.ndarray, fit=eight) -> np.ndarray:
    """(2, n) low and high."""
    reducer = method.start(len(batches[0]))
    for batch in batches:
        reducer.add(np.asarray(batch))
    return np.stack(reducer.ranges(fit))


@pytest.mark.parametrize("name", RANGES)
def test_every_range_holds_most_of_the_data_whatever_its_size(name: str) -> None:
    for scale in (1e-6, 1.0, 1e6):
        low, high = found(RANGES[name](), LAPLACE * scale)
        assert (low < 0).all() and (high > 0).all()
        inside = (LAPLACE * scale >= low[:, None]) & (LAPLACE * scale <= high[:, None])
        assert (inside.mean(axis=1) > 0.99).all()
    assert render(parse(name, RANGES, "range")) == name
    assert name in describe(RANGES)


@pytest.mark.parametrize("name", sorted(set(RANGES)))
def test_batches_do_not_matter_without_running_means(name: str) -> None:
    once = found(RANGES[name](), LAPLACE)
    pieces = np.array_split(LAPLACE[:, ::-1], [3, 700, 5000], axis=1)
    np.testing.assert_array_equal(found(RANGES[name](), *pieces), once)


@pytest.mark.parametrize("name", RANGES)
def test_what_was_never_seen_or_is_0_has_no_range(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(found(RANGES[name](), np.empty((2, 0))), 0)
        low, high = found(RANGES[name](), np.stack([np.zeros(9), np.arange(9.0)]))
    assert (low[0], high[0]) == (0, 0)
    assert low[1] == 0 and high[1] > 5


@pytest.mark.parametrize("name", RANGES)
def test_behind_a_relu_ranges_start_at_0(name: str) -> None:
    low, high = found(RANGES[name](), np.maximum(LAPLACE, 0))
    np.testing.assert_array_equal(low, 0)
    assert (high > 2).all()


def test_published_running_means_of_lines() -> None:
    # Steps with x = [[0, 1 + k], [-.5, 2]] give [-.5, 2], [-.5, 2], [-.5, 3], whose mean is this;
    # after the first two, the published test has 2.5 for batches with 2 and 3.
    batches = [np.array([[0, 1.0 + k, -0.5, 2]]) for k in (0, 1, 2)]
    np.testing.assert_allclose(found(MinMax(running=True), *batches).ravel(), [-0.5, 7 / 3])
    batches = [np.array([[-0.5, peak]]) for peak in (2.0, 3.0, 4.0)]
    for seen, mean in ((1, 2.0), (2, 2.5), (3, 3.0)):
        low, high = found(MinMax(running=True), *batches[:seen])
        assert (low[0], high[0]) == (-0.5, mean)


def test_the_running_mean_of_symmetric_scales_is_not_that_of_the_ends() -> None:
    batches = [np.array([[-4.0, 1]]), np.array([[-1.0, 2]])]
    np.testing.assert_array_equal(found(MinMax(True), *batches).ravel(), [-2.5, 1.5])
    low, high = found(MinMax(True, absolute=True), *batches)
    assert (low[0], high[0]) == (-3, 3)
    assert Scaler(legacy_step=True)(low, high, 8).scale[0] == 3 / 128
    np.testing.assert_array_equal(
        found(MinMax(absolute=True), np.array([[0, 2.0]])).ravel(), [0, 2]
    )


@pytest.mark.parametrize("p", [90.0, 99.0, 99.99, 100.0])
def test_percentiles_are_those_of_the_sorted_values(p: float) -> None:
    low, high = found(Percentile(p), LAPLACE)
    ordered, cut = np.sort(LAPLACE, axis=1), int(LAPLACE.shape[1] * (100 - p) / 200 + 1e-9)
    below, above = ordered[:, cut], ordered[:, -1 - cut]
    bin_width = 2 * np.abs(LAPLACE).max(axis=1) / BINS
    assert (np.abs(low - below) <= bin_width).all()
    assert (np.abs(high - above) <= bin_width).all()


def squares(fit, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.square(LAPLACE - fit(low, high).fake(LAPLACE)).sum(axis=1)


@pytest.mark.parametrize("quantiser", [Line(), Scaler(), PowerOfTwo()])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_the_least_squares_are_near_those_of_a_finer_search(quantiser, bits: int) -> None:
    fit = partial(lambda low, high: quantiser(low, high, bits, 0))
    low, high = found(Mse(), LAPLACE, fit=fit)
    whole = LAPLACE.min(axis=1), LAPLACE.max(axis=1)
    least = np.min(
        [squares(fit, whole[0] * a, whole[1] * a) for a in np.linspace(0.05, 1, 150)], axis=0
    )
    assert (squares(fit, low, high) <= least * 1.02).all()
    assert (squares(fit, low, high) <= squares(fit, *whole)).all()


def test_fewer_bits_clip_more() -> None:
    ends = [
        found(Mse(), LAPLACE, fit=lambda low, high, b=b: Line()(low, high, b, 0))[1] for b in (3, 8)
    ]
    assert (ends[0] < ends[1] / 2).all()


def test_entropy_cuts_a_lonely_outlier_off() -> None:
    body = RNG.normal(size=(1, 100000))
    with_outlier = np.concatenate([body, [[60.0]]], axis=1)
    assert found(Entropy(), with_outlier)[1, 0] < 10
    assert found(MinMax(), with_outlier)[1, 0] == 60


def test_thresholds_are_near_those_of_onnxruntimes_calibrators() -> None:
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    data = RNG.laplace(size=50000).astype(np.float32)
    batches = np.array_split(data, 4)
    theirs = {}
    for method, p in (("entropy", 99.99), ("percentile", 99.9)):
        collector = calibrate.HistogramCollector(
            method=method, symmetric=True, num_bins=512, num_quantized_bins=64, percentile=p,
            scenario="same",
        )  # fmt: skip
        for batch in batches:
            collector.collect({"x": [batch]})
        seen = collector.compute_collection_result()
        theirs[method] = float(np.ravel(seen["x"][1])[0])
    rows = [batch[None] for batch in batches]
    symmetric = lambda low, high: Scaler()(low, high, 6, 0)  # noqa: E731
    ours = found(Entropy(), *rows, fit=symmetric)[1, 0]
    assert ours == pytest.approx(theirs["entropy"], rel=0.1)
    assert found(Percentile(99.9), *rows)[1, 0] == pytest.approx(theirs["percentile"], rel=0.15)


def test_a_histogram_merges_its_bins_and_loses_none() -> None:
    seen = Histogram(1)
    for scale in (1.0, 3.0, 40.0, 0.001):
        seen.add(RNG.uniform(-scale, scale, (1, 500)))
    assert seen.counts.shape == (1, 2, BINS)
    assert seen.counts.sum() + seen.zeros.sum() == 2000
    assert seen.powers[0] == 6
    again = Histogram(1)
    again.add(np.array([[0.0, -0.0, 1e-42, -3e38, 3e38]]))
    assert (again.zeros[0], again.counts[0, 0].sum(), again.counts[0, 1].sum()) == (2, 1, 2)


@pytest.mark.parametrize("p", [50, 101])
def test_bad_percentiles_are_usage_errors(p: float) -> None:
    with pytest.raises(UsageError, match="must be above 50"):
        parse(f"percentile{{p={p}}}", RANGES, "range")

"""Grids and integers of stored weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from prunec.passes.quantize.quantisers import QUANTISERS, Line, Scaler
from prunec.passes.quantize.rounding import Gptq, Nearest
from prunec.passes.quantize.weights import Evidence, products, rounded, shift_of, weight_grid
from prunec.passes.recovery.forms import form_of
from prunec.passes.recovery.storage import Stored

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(6, 4, 3, 3)) * np.arange(1, 7)[:, None, None, None]


def off(grid, weight: np.ndarray = WEIGHT) -> float:
    return float(np.square(grid.fake(weight) - weight).sum())


@pytest.mark.parametrize("name", QUANTISERS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_searched_range_loses_no_more_than_the_whole_one(name: str, bits: int) -> None:
    quantiser = QUANTISERS[name]()
    for axis in (None, 0, 1):
        whole = weight_grid(WEIGHT, quantiser, bits, axis, searched=False)
        best = weight_grid(WEIGHT, quantiser, bits, axis)
        assert best.axis == axis
        if name != "clustered":  # whose channels share ranges: what suits each may not suit all
            assert off(best) <= off(whole)
        assert off(best) < 1.2 * off(whole)


def test_finer_scales_lose_less() -> None:
    tensor, channel = (off(weight_grid(WEIGHT, Scaler(), 4, axis)) for axis in (None, 0))
    assert channel < tensor / 2
    matrix = WEIGHT.reshape(24, 9)
    column, block = (weight_grid(matrix, Line(), 4, 0, block=b) for b in (0, 5))
    assert (column.scale.shape, block.scale.shape) == ((24,), (5, 9))
    assert off(block, matrix) < off(column, matrix)


@pytest.mark.parametrize("axis", [0, 1])
def test_blocks_are_grids_of_their_own(axis: int) -> None:
    matrix = RNG.normal(size=(7, 8))
    grid = weight_grid(matrix, Line(), 4, axis, block=4)
    whole = np.take(matrix, range(4), axis)
    part = weight_grid(whole, Line(), 4, 1 - axis)
    np.testing.assert_array_equal(np.take(grid.scale, 0, axis), part.scale)
    np.testing.assert_array_equal(np.take(grid.zero, 0, axis), part.zero)


def test_elements_that_count_more_are_served_better() -> None:
    weight = np.concatenate([RNG.normal(size=(1, 200)), [[9.0]]], axis=1)
    worth = np.ones_like(weight)
    worth[0, -1] = 1e4
    gaps = [
        abs(weight_grid(weight, Scaler(), 3, 0, worth=w).fake(weight)[0, -1] - 9)
        for w in (None, worth)
    ]
    assert gaps[1] < gaps[0] / 4


NODES = {
    "Conv": ((6, 4, 3, 3), {}, 1, 0),
    "grouped Conv": ((6, 2, 3, 3), {"group": 2}, 1, 0),
    "ConvTranspose": ((4, 6, 3, 3), {}, 1, 1),
    "Gemm": ((4, 6), {"alpha": -0.3}, 1, 1),
    "turned Gemm": ((6, 4), {"transB": 1, "alpha": 2.0}, 1, 0),
    "MatMul": ((4, 6), {}, 1, 1),
}


@pytest.mark.parametrize("kind", NODES)
def test_nearest_integers_in_matrices_are_those_of_the_grid(kind: str) -> None:
    shape, how, position, axis = NODES[kind]
    x, w = ir.Value(name="x"), ir.Value(name="w")
    node = ir.node(kind.rsplit(maxsplit=1)[-1], [x, w], how)
    form = form_of(node, position, shape)
    assert form is not None
    weight = RNG.normal(size=shape).astype(np.float32)
    for along, block in ((None, 0), (axis, 0), (1 - axis, 2)):
        grid = weight_grid(weight, Line(), 4, along, block=block)
        codes = rounded(form, weight, grid, Nearest())
        assert np.abs(codes - grid.codes(weight)).max() <= 1  # ties, in float64 and float32
        assert (codes == grid.codes(weight)).mean() > 0.99
    p = products(form, weight, grid)
    assert p.matrix.shape == p.scale.shape == p.zero.shape
    np.testing.assert_allclose(
        (codes - grid.spread(shape)[1]) * grid.spread(shape)[0], grid.values(codes), rtol=1e-6
    )


def test_a_weight_behind_a_transpose_is_rounded_as_it_is_read() -> None:
    form = form_of(ir.node("MatMul", [ir.Value(name="x"), ir.Value(name="w")]), 1, (4, 6))
    assert form is not None
    weight = RNG.normal(size=(6, 4)).astype(np.float32)
    x = RNG.normal(size=(50, 4)) @ RNG.normal(size=(4, 4))
    grid = weight_grid(weight, Scaler(), 3, 0)
    layout = Stored("w", (4, 6), (1, 0))
    evidence = Evidence((x.T @ x / 50)[None])
    codes = rounded(form, weight, grid, Gptq(), evidence, layout)
    assert codes.shape == weight.shape
    old, new = (
        np.square(x @ (grid.values(c) - weight).T).sum() for c in (grid.codes(weight), codes)
    )
    assert new < old
    matrix, now = form.matrix(weight.T), form.matrix(grid.values(codes).T)
    assert evidence.relative_error(matrix, now) == pytest.approx(
        new / np.square(x @ weight.T).sum()
    )


def test_errors_are_those_of_the_outputs_where_the_inputs_change_too() -> None:
    x, gap = RNG.normal(size=(2, 70, 4))
    q = x + 0.1 * gap
    matrix, new = RNG.normal(size=(2, 1, 4, 3))
    y = x @ matrix[0]
    evidence = Evidence((q.T @ q / 70)[None], (q.T @ x / 70)[None], float(np.square(y).sum() / 70))
    expected = np.square(q @ new[0] - y).sum() / np.square(y).sum()
    assert evidence.relative_error(matrix, new) == pytest.approx(expected)


def test_the_shift_keeps_the_mean_of_the_outputs() -> None:
    x, q = RNG.normal(1, 1, (1, 90, 4)), RNG.normal(1.2, 1, (1, 90, 4))
    matrix, new = RNG.normal(size=(2, 1, 4, 3))
    shift = shift_of(matrix, new, x.mean(axis=1), q.mean(axis=1))
    np.testing.assert_allclose((q @ new).mean(axis=1) + shift, (x @ matrix).mean(axis=1))

"""Roundings: which integers weights become."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from prunec.compiler.errors import UsageError
from prunec.compiler.quantisation import Products
from prunec.compiler.spec import describe, parse, render
from prunec.passes.quantize.rounding import ROUNDINGS, Gptq, Nearest, Truncate

RNG = np.random.default_rng(0)


def posed(groups: int = 2, inputs: int = 20, outputs: int = 5, bits: int = 4) -> Products:
    mixed = RNG.normal(size=(inputs, inputs))
    rows = np.maximum(RNG.normal(size=(400, inputs)) @ mixed + 1, 0)
    matrix = RNG.normal(size=(groups, inputs, outputs))
    scale = np.abs(matrix).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    moments = np.stack([rows.T @ rows / len(rows)] * groups)
    return Products(
        matrix,
        np.broadcast_to(scale, matrix.shape),
        np.zeros(matrix.shape, np.int64),
        -(2 ** (bits - 1)),
        2 ** (bits - 1) - 1,
        moments,
    )


def error(p: Products, codes: np.ndarray) -> float:
    gap = (codes - p.zero) * p.scale - p.matrix
    return float((gap * (p.moments @ gap)).sum())


@pytest.mark.parametrize("name", ROUNDINGS)
def test_every_rounding_gives_integers_within_the_ends(name: str) -> None:
    p = posed()
    p = replace(p, matrix=p.matrix * 3)
    codes = ROUNDINGS[name]()(p)
    assert codes.dtype == np.int64
    assert (codes.min(), codes.max()) == (p.low, p.high)
    assert render(parse(name, ROUNDINGS, "rounding")) == name
    assert name in describe(ROUNDINGS)


def test_truncation_is_that_of_the_seed() -> None:
    x = np.array([-0.99, -0.3, 0.3, 0.99]).reshape(1, 4, 1)
    p = Products(x, np.full(x.shape, 0.125), np.zeros(x.shape, np.int64), -8, 7)
    assert (Truncate()(p) * p.scale).ravel().tolist() == [-0.875, -0.25, 0.25, 0.875]
    assert (Nearest()(p) * p.scale).ravel().tolist() == [-1, -0.25, 0.25, 0.875]


def test_gptq_is_nearest_without_data_and_for_inputs_that_are_independent() -> None:
    p = posed()
    np.testing.assert_array_equal(Gptq()(replace(p, moments=None)), Nearest()(p))
    diagonal = np.stack([np.diag(RNG.uniform(1, 2, 20))] * 2)
    np.testing.assert_array_equal(Gptq()(replace(p, moments=diagonal)), Nearest()(p))


@pytest.mark.parametrize("order", ["activation", "natural"])
def test_gptq_halves_the_error_of_the_outputs(order: str) -> None:
    p = posed(inputs=60)
    assert error(p, Gptq(order=order)(p)) < error(p, Nearest()(p)) / 2


def test_sweeps_never_raise_the_error() -> None:
    p = posed(inputs=40, bits=3)
    errors = [error(p, Gptq(ridge=1e-9, sweeps=n)(p)) for n in (0, 1, 2, 9)]
    assert all(a >= b for a, b in itertools.pairwise(errors))
    assert errors[0] > errors[1]


def obq(p: Products, ridge: float) -> np.ndarray:
    """The published form: after each input the others move by the inverse of the moments."""
    out = np.empty(p.matrix.shape, np.int64)
    for g, moments in enumerate(p.moments):
        hessian = moments + ridge * np.diagonal(moments).mean() * np.eye(len(moments))
        upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
        weight = p.matrix[g].copy()
        for i in range(len(weight)):
            code = np.clip(np.rint(weight[i] / p.scale[g, i]), p.low, p.high)
            off = (weight[i] - code * p.scale[g, i]) / upper[i, i]
            weight[i + 1 :] -= np.outer(upper[i, i + 1 :], off)
            out[g, i] = code
    return out


@pytest.mark.parametrize("inputs", [20, 300])
def test_nearest_planes_are_the_published_updates(inputs: int) -> None:
    p = posed(inputs=inputs)
    codes = Gptq(ridge=0.01, order="natural", sweeps=0)(p)
    np.testing.assert_array_equal(codes, obq(p, 0.01))


def test_gptq_is_near_the_best_of_all_integers() -> None:
    p = posed(groups=1, inputs=4, outputs=1, bits=2)
    every = itertools.product(range(p.low, p.high + 1), repeat=4)
    best = min(error(p, np.array(codes).reshape(1, 4, 1)) for codes in every)
    assert error(p, Gptq(ridge=1e-9, sweeps=5)(p)) <= 1.5 * best


def test_the_outputs_of_the_float_model_are_the_goal_whatever_the_inputs_became() -> None:
    inputs, rows = 30, RNG.normal(size=(3000, 30))
    shifted = rows * 0.8 + 0.1 * RNG.normal(size=rows.shape)
    p = posed(groups=1, inputs=inputs, bits=8)
    moments, cross = (shifted.T @ x / len(rows) for x in (shifted, rows))
    p = replace(p, moments=moments[None], cross=cross[None])
    wanted = rows @ p.matrix[0]

    def off(codes: np.ndarray) -> float:
        return float(np.square(shifted @ (codes[0] * p.scale[0]) - wanted).mean())

    deaf = replace(p, cross=None)
    assert off(Gptq(ridge=1e-6)(p)) < 0.5 * off(Gptq(ridge=1e-6)(deaf))


def test_weights_that_are_0_stay() -> None:
    p = posed()
    matrix = np.where(RNG.random(p.matrix.shape) < 0.5, 0.0, p.matrix)
    codes = Gptq()(replace(p, matrix=matrix, zero=p.zero + 3, high=20))
    assert (codes[matrix == 0] == 3).all()


def test_inputs_that_are_always_0_and_singular_moments_do_no_harm() -> None:
    p = posed()
    moments = p.moments.copy()
    moments[:, 3] = moments[:, :, 3] = 0
    moments[1] = 0
    codes = Gptq()(replace(p, moments=moments))
    np.testing.assert_array_equal(codes[:, 3], Nearest()(p)[:, 3])
    np.testing.assert_array_equal(codes[1], Nearest()(p)[1])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gptq{order=act}", "unknown order 'act'"),
        ("gptq{ridge=0}", "ridge must be above 0"),
        ("gptq{sweeps=-1}", "sweeps at least 0"),
        ("gtpq", "did you mean 'gptq'"),
    ],
)
def test_bad_specifications_are_usage_errors(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(spec, ROUNDINGS, "rounding")

"""What one part of a network takes at sizes that were not measured: fits to measured ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Predict = Callable[[IntArray], FloatArray]

PERIOD = 16  # channels; kernels work on blocks of 4, 8 or 16, and what is left over costs extra
LEAST_OF_CLASS = 3
RIDGE = 1e-6
REACH = 2.0  # octaves of size over which a measurement speaks for its surroundings
NOISE = (
    0.3  # octaves within which measurements are averaged, as each of them is off by some percent
)
OTHER_CLASS = 0.01  # weight of a measurement with other residues beside one with the same
CALM = 0.25  # quantile of repeated measurements that counts
CHUNK = 8192  # sizes at once
FLOOR = 0.5  # no prediction is below this share of the smallest measurement


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Measurements of one cell. sizes: (n, d) of its d factors, distinct rows; times: (n,) ns."""

    sizes: IntArray
    times: FloatArray

    @classmethod
    def of(cls, sizes: IntArray, times: FloatArray) -> Samples:
        """Rows that were measured several times become one; disturbances only ever add to times.

        What the runtime folds into something else takes no time at all, here a nanosecond.
        """
        rows, inverse = np.unique(sizes, axis=0, return_inverse=True)
        own = [times[inverse.ravel() == k] for k in range(len(rows))]
        return cls(rows, np.array([max(float(np.quantile(t, CALM)), 1.0) for t in own]))


@dataclass(frozen=True, slots=True)
class Quality:
    """mpe: mean of |predicted - measured| / measured; r2: share of the variance explained."""

    mpe: float
    r2: float


def quality(predicted: FloatArray, measured: FloatArray) -> Quality:
    """How well predictions agree; r2 is 1 where the measurements are all the same and met."""
    off = float(((predicted - measured) ** 2).sum())
    spread = float(((measured - measured.mean()) ** 2).sum())
    r2 = 1 - off / spread if spread > 0 else float(off == 0)
    return Quality(float(np.mean(np.abs(predicted - measured) / measured)), r2)


def linear_solve(features: FloatArray, times: FloatArray) -> FloatArray:
    """``(S'S)^-1 S'y``, with 1e-5 on the diagonal where that is singular; the published fit."""
    square, right = features.T @ features, features.T @ times
    try:
        return np.asarray(np.linalg.solve(square, right))
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.solve(square + 1e-5 * np.eye(len(square)), right))


def m5_features(sizes: FloatArray) -> FloatArray:
    """(n, 3) of ``1, a, ab`` for sizes (a: in, b: out); ``1, a`` for one factor."""
    return _published(sizes, both=False)


def m6_features(sizes: FloatArray) -> FloatArray:
    """(n, 4) of ``1, a, b, ab``; ``1, a`` for one factor; ``1, product`` for more than two."""
    return _published(sizes, both=True)


def _published(x: FloatArray, *, both: bool) -> FloatArray:
    columns = [np.ones(len(x))]
    if x.shape[1] == 2:
        columns += [x[:, 0], *([x[:, 1]] if both else []), x[:, 0] * x[:, 1]]
    elif x.shape[1]:
        columns.append(x.prod(axis=1))
    return np.stack(columns, axis=1)


def _polynomial(features: Callable[[FloatArray], FloatArray]) -> Callable[[Samples], Predict]:
    def fit(samples: Samples) -> Predict:
        # Scaled to at most 1, so that the normal equations stay well conditioned.
        scale = np.maximum(samples.sizes.max(axis=0, initial=1), 1)

        def columns(sizes: IntArray) -> FloatArray:
            return features(sizes / scale)

        solved = linear_solve(columns(samples.sizes), samples.times)
        return lambda sizes: np.asarray(columns(sizes) @ solved)

    return fit


def fit_lut(samples: Samples) -> Predict:
    """A staircase through the measurements.

    The base is ``x0 + x1 a + x2 b + x3 ab`` with a step of its own, which depends on the other
    factor, for each residue modulo `PERIOD` that was measured often enough, fitted to relative
    errors. What it misses is a mean over the measurements around, those of the same residues first.
    """
    sizes, times = samples.sizes, samples.times
    if not sizes.shape[1]:
        middle = float(np.median(times))
        return lambda wanted: np.full(len(wanted), middle)
    scale = np.maximum(sizes.max(axis=0), 1).astype(np.float64)
    classes = _classes(sizes)
    solved = _relative_fit(_steps(sizes, scale, classes), times)
    floor = FLOOR * float(times.min())

    def base(wanted: IntArray) -> FloatArray:
        return np.maximum(_steps(wanted, scale, classes) @ solved, floor)

    missed = times / base(sizes)

    def predict(wanted: IntArray) -> FloatArray:
        return base(wanted) * _around(wanted, sizes, missed)

    return predict


def _classes(sizes: IntArray) -> tuple[tuple[int, ...], ...]:
    """Per factor the residues that get steps: all but the commonest, as far as data allows."""
    out = []
    room = len(sizes) // 3 - 2 ** min(sizes.shape[1], 2)
    for column in (sizes % PERIOD).T:
        residues, counts = np.unique(column, return_counts=True)
        order = np.argsort(-counts, kind="stable")[1:]
        often = [int(residues[k]) for k in order if counts[k] >= LEAST_OF_CLASS]
        taken = often[: max(0, room // 2)]
        room -= 2 * len(taken)
        out.append(tuple(taken))
    return tuple(out)


def _steps(sizes: IntArray, scale: FloatArray, classes: tuple[tuple[int, ...], ...]) -> FloatArray:
    """Columns of the base: the bilinear ones, and one or two for each residue."""
    x = sizes / scale
    columns = [np.ones(len(x)), *x.T] if x.shape[1] == 2 else [np.ones(len(x))]
    columns.append(x.prod(axis=1))
    for d, residues in enumerate(classes):
        for residue in residues:
            there = (sizes[:, d] % PERIOD == residue).astype(np.float64)
            columns.append(there)
            if x.shape[1] > 1:
                columns.append(there * np.delete(x, d, axis=1).prod(axis=1))
    return np.stack(columns, axis=1)


def _relative_fit(columns: FloatArray, times: FloatArray) -> FloatArray:
    weighted = columns / times[:, None]
    norm = np.maximum(np.linalg.norm(weighted, axis=0), 1e-300)
    scaled = weighted / norm
    square = scaled.T @ scaled + RIDGE * np.eye(scaled.shape[1])
    return np.asarray(np.linalg.solve(square, scaled.sum(axis=0)) / norm)


def _around(wanted: IntArray, sizes: IntArray, missed: FloatArray) -> FloatArray:
    """(m,) factor on the base: a mean of what it misses nearby, drawn towards 1 far from all."""
    out = np.empty(len(wanted))
    for start in range(0, len(wanted), CHUNK):
        own = wanted[start : start + CHUNK, None]
        distance = ((np.log2(own) - np.log2(sizes)) ** 2).sum(axis=2)
        alike = (sizes % PERIOD == own % PERIOD).all(axis=2)
        weights = np.where(alike, 1.0, OTHER_CLASS) / (distance + NOISE**2) ** 2
        out[start : start + CHUNK] = (weights @ np.log(missed)) / (
            weights.sum(axis=1) + 1 / REACH**4
        )
    return np.asarray(np.exp(out))


MODELS: Mapping[str, Callable[[Samples], Predict]] = {
    "lut": fit_lut,
    "m5": _polynomial(m5_features),
    "m6": _polynomial(m6_features),
}

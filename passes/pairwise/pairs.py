"""The most that a block of pair importance can hold at given kept counts, proven."""

from __future__ import annotations

from itertools import chain, combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.problem import FloatArray, IntArray

TRIED = 1 << 18  # sums of columns, for all choices of rows
SLACK = 1e-6  # relative: float32 sums and singular values


def most(values: NDArray[Any], rows: IntArray, columns: IntArray) -> FloatArray:
    """Upper bounds of ``u' A v`` over 0/1 vectors with the given counts.

    values: A, (n, m), >= 0. rows, columns: counts of u and of v, ascending. Returns (len(rows),
    len(columns)): the least of these bounds. Each row may choose its own best columns; each column
    its own best rows. By effects: ``A = mean + row effects + column effects + R``, where the
    effects are maximised one by one and ``u' R v <= s |u - mean u| |v - mean v|`` with s the
    largest singular value of R, whose rows and columns sum to 0. Where one side has few choices
    they are all tried, which is exact.
    """
    wide = np.asarray(values, np.float64)
    by_rows = _best_of_best(wide, rows, columns)
    by_columns = _best_of_best(wide.T, columns, rows).T
    least = np.minimum(np.minimum(by_rows, by_columns), _by_effects(wide, rows, columns))
    for k, p in enumerate(rows.tolist()):
        if comb(len(wide), p) * wide.shape[1] <= TRIED:
            least[k] = np.minimum(least[k], _best_of_all(wide, p, columns))
    for k, r in enumerate(columns.tolist()):
        if comb(wide.shape[1], r) * len(wide) <= TRIED:
            least[:, k] = np.minimum(least[:, k], _best_of_all(wide.T, r, rows))
    return np.asarray(least * (1 + SLACK))


def most_within(values: NDArray[Any], linear: FloatArray, counts: IntArray) -> FloatArray:
    """Upper bounds of ``x' A x + linear . x``, the diagonal of A being 0, at these counts of x.

    As for two vectors; the effects are those of (A + A') / 2, whose rest has a largest eigenvalue.
    """
    wide = np.asarray(values, np.float64)
    wide = (wide + wide.T) / 2
    n = len(wide)
    # Column k of the rows' best: what each row adds if it is kept with counts[k] - 1 others.
    rows = top(wide, np.maximum(counts - 1, 0)).T + linear[:, None]
    by_rows = np.diagonal(top(rows, counts))
    least = np.minimum(by_rows, _by_own_effects(wide, linear, counts))
    for k, p in enumerate(counts.tolist()):
        if comb(n, p) * p * p <= TRIED:
            chosen = _choices(n, p)
            pairs = wide[chosen[:, :, None], chosen[:, None, :]].sum(axis=(1, 2))
            least[k] = (pairs + linear[chosen].sum(axis=1)).max()
    return np.asarray(least * (1 + SLACK))


def _by_own_effects(values: FloatArray, linear: FloatArray, counts: IntArray) -> FloatArray:
    n = len(values)
    mean = values.mean()
    effects = values.mean(axis=1) - mean
    rest = values - mean - effects[:, None] - effects
    size = max(0.0, float(np.linalg.eigvalsh(rest)[-1])) + 1e-12 * float(np.abs(rest).sum())
    k = counts.astype(np.float64)
    single = np.diagonal(top(2 * effects[:, None] * k + linear[:, None], counts))
    return np.asarray(k * k * mean + single + size * k * (n - k) / n)


def top(values: FloatArray, counts: IntArray) -> FloatArray:
    """Sums of the largest `counts` values along axis 0: (len(counts), ...)."""
    ordered = -np.sort(-values, axis=0)
    sums = np.concatenate([np.zeros_like(ordered[:1]), np.cumsum(ordered, axis=0)])
    return np.asarray(sums[counts])


def _best_of_best(values: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    return top(top(values.T, columns).T, rows)


def _best_of_all(values: FloatArray, p: int, columns: IntArray) -> FloatArray:
    """Most over all choices of p rows: (len(columns),)."""
    chosen = _choices(len(values), p)
    sums = np.zeros((len(chosen), values.shape[1]))
    for k in range(p):
        sums += values[chosen[:, k]]
    return np.asarray(top(sums.T, columns).max(axis=1))


def _choices(n: int, p: int) -> IntArray:
    """(n over p, p) all choices."""
    flat = chain.from_iterable(combinations(range(n), p))
    return np.fromiter(flat, np.int64, comb(n, p) * p).reshape(comb(n, p), p)


def _by_effects(values: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    n, m = values.shape
    mean = values.mean()
    row_effects, column_effects = values.mean(axis=1) - mean, values.mean(axis=0) - mean
    rest = values - mean - row_effects[:, None] - column_effects
    size = largest_singular_value(rest)
    p, r = rows[:, None].astype(np.float64), columns[None, :].astype(np.float64)
    spread = np.sqrt(p * (n - p) / n * r * (m - r) / m)
    effects = top(row_effects, rows)[:, None] * r + p * top(column_effects, columns)[None, :]
    return np.asarray(p * r * mean + effects + size * spread)


def largest_singular_value(matrix: FloatArray) -> float:
    """Upper bound of the spectral norm: eigenvalue of the smaller Gram matrix, rounded up."""
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    # LAPACK's backward error is a small multiple of machine epsilon times the norm.
    most_of = float(np.linalg.eigvalsh(gram)[-1])
    return float(np.sqrt(max(most_of, 0.0) * (1 + 1e-9) + 1e-12 * abs(np.trace(gram))))

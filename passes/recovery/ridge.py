"""Ridge regression with a prior, its penalty chosen on rows that were held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.passes.recovery.moments import Moments

FloatArray = NDArray[np.float64]
Rounding = Callable[[FloatArray], FloatArray]
PENALTIES = tuple(10.0**k for k in range(-9, 2))
FEW_PENALTIES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
# Above so many unknowns per output an eigendecomposition costs more than a few solutions.
LARGE = 1200
FLAT = 1e30  # the weights stay, the intercept is fitted
STAYS = np.inf  # both stay


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """What is known before: ``y ~ x W0 + b0``. matrix: (G, D, M); shift: (G, M).

    intercept: whether the shift may move. rounded: what storing does to a matrix.
    """

    matrix: FloatArray
    shift: FloatArray
    intercept: bool
    rounded: Rounding = lambda matrix: matrix


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """``x W + b``. matrix: (G, D, M); shift: (G, M)."""

    matrix: FloatArray
    shift: FloatArray

    def where(self, take: NDArray[np.bool_], other: Line) -> Line:
        """These outputs where `take`, (G, M), those of the other elsewhere."""
        return Line(
            np.where(take[:, None, :], self.matrix, other.matrix),
            np.where(take, self.shift, other.shift),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What a regression found. line: what is stored. judged: the same without the held-out rows.

    penalties: (G, M) of each output. before, after: (G, M) squared errors of the prior and of
    `judged` on the held-out rows; spread: (G, M) of the held-out targets about their mean. behind:
    errors and spread are those behind a clip, else those of y. paths: for other targets of the same
    inputs, without and with the held-out rows; the latter where `line` was fitted to these.
    """

    line: Line
    judged: Line
    penalties: FloatArray
    before: FloatArray
    after: FloatArray
    spread: FloatArray
    paths: tuple[Path, Path | None]
    behind: bool = False


class Path:
    """Solutions for one set of inputs, at any penalty and for any targets."""

    def __init__(self, moments: Moments, prior: Prior) -> None:
        self._prior, self._rows = prior, max(moments.rows, 1)
        self._mean = moments.x / self._rows
        self._xx = moments.centred().xx if prior.intercept else moments.xx
        self._x = moments.x
        size = self._xx.shape[1]
        scale = np.trace(self._xx, axis1=1, axis2=2)[:, None, None] / max(size, 1)
        self._scale = np.where(scale > 0, scale, 1.0)
        self._turned: tuple[FloatArray, FloatArray] | None = None
        if size <= LARGE:
            values, vectors = np.linalg.eigh(self._xx)
            self._turned = np.maximum(values, 0.0)[:, :, None], vectors

    def solve(self, xy: FloatArray, y: FloatArray, penalties: Sequence[float]) -> list[Line]:
        """One per penalty. xy: (G, D, M) sum of x^T y; y: (G, M) sum of y."""
        prior = self._prior
        if prior.intercept:
            target = xy - self._mean[:, :, None] * y[:, None, :]
        else:
            target = xy - self._x[:, :, None] * prior.shift[:, None, :]
        residual = target - self._xx @ prior.matrix
        return [self._line(residual, y, p) for p in penalties]

    def all(self, moments: Moments, penalties: Sequence[float]) -> list[tuple[float, Line]]:
        """Each penalty with its solution for the targets in the moments."""
        lines = self.solve(moments.xy, moments.y, penalties)
        return list(zip(penalties, lines, strict=True))

    def mixed(self, xy: FloatArray, y: FloatArray, penalties: FloatArray) -> Line:
        """Each output with its own penalty, (G, M)."""
        different = [float(p) for p in np.unique(penalties) if p < STAYS]
        out = Line(self._prior.matrix, self._prior.shift)
        for p, line in zip(different, self.solve(xy, y, different), strict=True):
            out = line.where(penalties == p, out)
        return out

    def _line(self, residual: FloatArray, y: FloatArray, penalty: float) -> Line:
        prior = self._prior
        matrix = prior.matrix
        if penalty < FLAT:
            matrix = prior.rounded(matrix + self._step(residual, penalty))
        if not prior.intercept:
            return Line(matrix, prior.shift)
        through = np.einsum("gd,gdm->gm", self._x, matrix)
        return Line(matrix, (y - through) / self._rows)

    def _step(self, residual: FloatArray, penalty: float) -> FloatArray:
        if self._turned is not None:
            values, vectors = self._turned
            damped = np.swapaxes(vectors, 1, 2) @ residual
            damped /= np.maximum(values + penalty * self._scale, np.finfo(float).tiny)
            return np.asarray(vectors @ damped)
        added = penalty * self._scale * np.eye(self._xx.shape[1])
        try:
            return np.asarray(np.linalg.solve(self._xx + added, residual), np.float64)
        except np.linalg.LinAlgError:  # singular to the last bit: no step is as good as any
            return np.zeros_like(residual)


def ridge(
    fit: Moments, held: Moments, prior: Prior, penalties: Sequence[float] = (), refit: bool = True
) -> Fit:
    """Minimise ``|y - x W - b|^2 + p |W - W0|^2`` per output, p by the error on the held-out rows.

    penalties: relative to the mean square of an input; what is best may be none of them: then W0
    stays, and b0 too unless it may move. refit: with the penalties found, fit `line` to all rows.
    No output gets worse on the held-out rows than it is with W0 and b0.
    """
    size = prior.matrix.shape[1]
    grid = tuple(penalties) or (PENALTIES if size <= LARGE else FEW_PENALTIES)
    path = Path(fit, prior)
    before = held.error(prior.matrix, prior.shift)
    tried = [(p, line, held.error(line.matrix, line.shift)) for p, line in path.all(fit, grid)]
    if size > LARGE:
        # One penalty for all outputs: each different one is another system of equations.
        tried = [min(tried, key=lambda t: float(np.minimum(t[2], before).sum()))]
    if prior.intercept:
        tried += [(p, x, held.error(x.matrix, x.shift)) for p, x in path.all(fit, (FLAT,))]
    best, least = Line(prior.matrix, prior.shift), before
    chosen = np.full(before.shape, STAYS)
    for penalty, line, error in tried:
        wins = error < least
        best, least = line.where(wins, best), np.where(wins, error, least)
        chosen = np.where(wins, penalty, chosen)
    spread = held.centred().yy
    if not refit:
        return Fit(best, best, chosen, before, least, spread, (path, None))
    both = fit + held
    whole = Path(both, prior)
    final = whole.mixed(both.xy, both.y, chosen)
    final = final.where(held.error(final.matrix, final.shift) <= before, best)
    return Fit(final, best, chosen, before, least, spread, (path, whole))

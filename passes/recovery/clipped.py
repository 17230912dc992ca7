"""Least squares of what a Relu or a Clip lets through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prunec.passes.recovery.moments import FloatArray
from prunec.passes.recovery.ridge import Fit, Line, Prior
from prunec.passes.recovery.rows import Bounds, Rows

Stream = Callable[[], Iterator[tuple[Rows, bool]]]


def behind_clip(start: Fit, prior: Prior, bounds: Bounds, rows: Stream, rounds: int) -> Fit:
    """Go on from `start`, whose errors count in front of the clip, to least errors behind it.

    rows: gives all rows anew with each call, with True for those held out. rounds: regressions at
    most; each takes one pass over the rows, and one more judges the last. Where the dense value is
    cut off, the goal becomes the present value beyond the bound, or the bound: this surrogate lies
    above the error and meets it at the present weights, so that no round makes it larger
    (majorisation). What is best on the held-out rows is kept per output.
    Source: Zhang et al., Accelerating Very Deep Convolutional Networks, TPAMI 2016, section 3.2,
    which relaxes the same problem.
    """
    path, with_held = start.paths
    first = Line(prior.matrix, prior.shift)
    now = start.judged, start.line
    best, least, before, spread = (first, first), None, None, None
    for number in range(rounds + 1):
        seen = _pass(now, first, bounds, rows, prior)
        if least is None:
            least, before, spread = seen.before, seen.before, seen.spread
        wins = seen.error < least
        best = now[0].where(wins, best[0]), now[1].where(wins, best[1])
        least = np.where(wins, seen.error, least)
        if number < rounds:
            judged = whole = path.mixed(seen.fit_xy, seen.fit_y, start.penalties)
            if with_held is not None:
                whole = with_held.mixed(seen.all_xy, seen.all_y, start.penalties)
            now = judged, whole
    assert least is not None and before is not None and spread is not None
    stays = np.where(least < before, start.penalties, np.inf)
    return replace(
        start, line=best[1], judged=best[0], penalties=stays, before=before, after=least,
        spread=spread, behind=True,
    )  # fmt: skip


@dataclass(slots=True, eq=False)
class _Seen:
    """Sums of one pass: of new goals for both lines, and of errors behind the clip."""

    fit_xy: FloatArray
    fit_y: FloatArray
    all_xy: FloatArray
    all_y: FloatArray
    error: FloatArray
    before: FloatArray
    spread: FloatArray


def _pass(now: tuple[Line, Line], first: Line, bounds: Bounds, rows: Stream, prior: Prior) -> _Seen:
    seen = _Seen(
        *(np.zeros(shape) for _ in range(2) for shape in (prior.matrix.shape, prior.shift.shape)),
        *(np.zeros(prior.shift.shape) for _ in range(3)),
    )
    count, total = 0, np.zeros(prior.shift.shape)
    for part, held in rows():
        judged = part.value(now[0].matrix, now[0].shift)
        whole = part.value(now[1].matrix, now[1].shift)
        goals = part.targets(_goals(part.goal, whole, bounds))
        across = np.swapaxes(part.x, 1, 2)
        seen.all_xy += across @ goals
        seen.all_y += goals.sum(axis=1)
        if held:
            passed = np.clip(part.goal, *bounds)
            seen.error += np.square(np.clip(judged, *bounds) - passed).sum(axis=1)
            plain = part.value(first.matrix, first.shift)
            seen.before += np.square(np.clip(plain, *bounds) - passed).sum(axis=1)
            seen.spread += np.square(passed).sum(axis=1)
            total += passed.sum(axis=1)
            count += passed.shape[1]
            continue
        goals = part.targets(_goals(part.goal, judged, bounds))
        seen.fit_xy += across @ goals
        seen.fit_y += goals.sum(axis=1)
    seen.spread = np.maximum(seen.spread - total**2 / max(count, 1), 0.0)
    return seen


def _goals(goal: FloatArray, now: FloatArray, bounds: Bounds) -> FloatArray:
    low, high = bounds
    below: NDArray[np.bool_] = goal <= low
    above: NDArray[np.bool_] = goal >= high
    cut = np.where(below, np.minimum(now, low), np.maximum(now, high))
    return np.where(below | above, cut, goal)

"""Search of the range with the least loss, each channel by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prunec.compiler.quantisation import Fit, FloatArray, Grid

Loss = Callable[[Grid], FloatArray]  # the grid of all channels -> (n,) what each loses by it
STEPS = 64  # thresholds that are tried, evenly down from the whole range
ROUNDS = 2  # of moving each end with the other one held


def both_ends(
    low: FloatArray, high: FloatArray, fit: Fit, loss: Loss
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The best of `STEPS` thresholds t on ``|x|``: ``[max(low, -t), min(high, t)]``.

    low, high: (n,) the smallest and largest value. Returns low, high and loss, (n,) each; of
    equals the widest.
    """
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    best, least = (low, high), loss(fit(low, high))
    largest = np.maximum(-low, high)
    for step in range(STEPS - 1, 0, -1):
        t = largest * (step / STEPS)
        best, least = _better(best, least, (np.maximum(low, -t), np.minimum(high, t)), fit, loss)
    return (*best, least)


def each_end(
    low: FloatArray, high: FloatArray, fit: Fit, loss: Loss
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """As `both_ends`; then the ends are moved one after the other, where the grids ask for it."""
    if _symmetric(low, high, fit):
        return both_ends(low, high, fit, loss)
    whole = np.minimum(low, 0.0), np.maximum(high, 0.0)
    *found, least = both_ends(low, high, fit, loss)
    best = found[0], found[1]
    for _ in range(ROUNDS):
        before = best
        for step in range(STEPS, -1, -1):
            best, least = _better(best, least, (best[0], whole[1] * (step / STEPS)), fit, loss)
        for step in range(STEPS, -1, -1):
            best, least = _better(best, least, (whole[0] * (step / STEPS), best[1]), fit, loss)
        if all(np.array_equal(a, b) for a, b in zip(before, best, strict=True)):
            break
    return (*best, least)


def _symmetric(low: FloatArray, high: FloatArray, fit: Fit) -> bool:
    """Whether a grid knows no ends but the larger one: moving the other one would do nothing."""
    largest = np.maximum(np.maximum(-low, high), 1.0)
    half, whole = fit(np.zeros_like(largest), largest), fit(-largest, largest)
    same = half.signed == whole.signed and np.array_equal(half.scale, whole.scale)
    return same and np.array_equal(half.zero, whole.zero)


def _better(
    best: tuple[FloatArray, FloatArray],
    least: FloatArray,
    tried: tuple[FloatArray, FloatArray],
    fit: Fit,
    loss: Loss,
) -> tuple[tuple[FloatArray, FloatArray], FloatArray]:
    lost = loss(fit(*tried))
    # A range of nothing has some scale of its own, which may suit by chance.
    wins = (lost < least) & (tried[0] < tried[1])
    ends = [np.where(wins, new, old) for new, old in zip(tried, best, strict=True)]
    return (ends[0], ends[1]), np.where(wins, lost, least)

"""The Pareto front of cost and loss, and its knee."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST_DISTANCE = 1e-9  # of the unit square; less is rounding


def pareto(costs: Sequence[float], losses: Sequence[float]) -> tuple[int, ...]:
    """Indices of the points that no other beats in both, cheapest first; of equal ones the first.

    >>> pareto([3, 1, 2, 2], [0.0, 0.4, 0.5, 0.1])
    (1, 3, 0)
    """
    order = sorted(range(len(costs)), key=lambda k: (costs[k], losses[k], k))
    out: list[int] = []
    for k in order:
        if not out or losses[k] < losses[out[-1]]:
            out.append(k)
    return tuple(out)


def knee(costs: Sequence[float], losses: Sequence[float]) -> int | None:
    """Position of the point of a front that lies farthest below the chord between its ends.

    costs: strictly ascending; losses: strictly descending. Both are scaled to [0, 1], as cost and
    loss have no common unit; the chord then falls from (0, 1) to (1, 0), and the distance to it is
    ``(1 - x - y) / sqrt(2)``. Of equal distances the cheaper point. None where no point lies below
    the chord. This is the difference curve of Kneedle (Satopaa et al., ICDCS Workshops 2011,
    section III) without its smoothing, as the points are few and not noisy, and with its maximum.
    """
    if len(costs) < 3:
        return None
    x, y = np.asarray(costs, np.float64), np.asarray(losses, np.float64)
    distance = 1 - (x - x[0]) / (x[-1] - x[0]) - (y - y[-1]) / (y[0] - y[-1])
    best = int(np.argmax(distance))
    return best if distance[best] > LEAST_DISTANCE else None

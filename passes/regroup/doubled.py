"""The order of a hyperedge that is on both sides of one weight: what it keeps is quadratic."""

from __future__ import annotations

from itertools import product

import numpy as np

from prunec.passes.regroup.blocks import FloatArray, IntArray
from prunec.passes.regroup.orders import Occurrence, Orders


def improve_doubled(orders: Orders, e: int, found: IntArray, least: float) -> bool:
    """Take `found` where it gains, then the best exchange of two contents until none gains.

    found: (n,) classes that are best to first order. least: what counts as a gain. Whether there
    was any.
    """
    kinds = orders.kinds[e]
    weights = {o.side[0] for o in orders.places[e].occurrences}
    before = orders.value(weights)
    orders.put(e, found)
    improved = orders.value(weights) > before + least
    if not improved:
        orders.put(e, kinds)
    for _ in range(len(kinds)):
        gains = swap_gains(orders, e)
        one, other = divmod(int(gains.argmax()), len(kinds))
        if gains[one, other] <= least:
            break
        swapped = orders.kinds[e].copy()
        swapped[[one, other]] = swapped[[other, one]]
        orders.put(e, swapped)
        improved = True
    return improved


def swap_gains(orders: Orders, e: int) -> FloatArray:
    """(n, n) what is gained when two contents change places, exactly.

    The first-order gains of both, corrected by what these two have with each other.
    """
    kinds = orders.kinds[e]
    gains = orders.gains(e)
    moves = gains[:, kinds] - gains[np.arange(len(kinds)), kinds][:, None]
    out = moves + moves.T
    occurrences = orders.places[e].occurrences
    for rows, columns in product(occurrences, occurrences):
        if rows.side[0] == columns.side[0] and rows.side[1] < columns.side[1]:
            out += _between(orders, rows, columns, kinds)
    return np.asarray(out)


def _between(orders: Orders, rows: Occurrence, columns: Occurrence, kinds: IntArray) -> FloatArray:
    """(n, n) what first order counts wrongly of the pairs that two contents make of themselves.

    For contents a, b and a row and a column of {a, b} each: kept after the exchange and before,
    less what was counted with only one of both moved.
    """
    own = orders.scored[rows.side[0]]
    out = np.zeros((len(kinds), len(kinds)))
    for k, m in product(range(rows.at.shape[1]), range(columns.at.shape[1])):
        score = own.score[np.ix_(rows.at[:, k], columns.at[:, m])] * own.scale
        same = (rows.blocks[kinds, k][:, None] == columns.blocks[kinds, m]).astype(np.float64)
        stay, cross = np.diag(same), same + same.T
        alone = np.diag(score)
        out += (stay[:, None] + stay - cross) * (alone[:, None] + alone - score - score.T)
    return out

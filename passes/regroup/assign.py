"""Members into groups of equal size so that the sum of their gains is largest."""

from __future__ import annotations

from functools import cache

import numpy as np

from prunec.passes.regroup.blocks import FloatArray, IntArray

EXACT_SIZE = 128  # members; beyond, exchanges between groups take less time than the assignment
TINY = 1e-12  # of the largest gain: less is rounding


def assigned(gains: FloatArray, ids: IntArray) -> IntArray:
    """(n,) group of each member: the best assignment, or from `ids` on where that is large.

    gains: (n, G) what a member is worth in each group; G divides n. ids: (n,) groups at present,
    all of equal size. Exact for G = 2 and for up to EXACT_SIZE members.
    """
    members, groups = gains.shape
    if groups == 2 or members > EXACT_SIZE:
        return exchanged(gains, ids)
    return placed(gains, np.full(groups, members // groups))


def placed(gains: FloatArray, capacity: IntArray) -> IntArray:
    """(n,) the exact best assignment; capacity: (G,) members of each group, n in all. O(n^3)."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 (slow to import)

    group_of_place = np.repeat(np.arange(len(capacity), dtype=np.int64), capacity)
    _, places = linear_sum_assignment(gains[:, group_of_place], maximize=True)
    return np.asarray(group_of_place[places])


def exchanged(gains: FloatArray, ids: IntArray) -> IntArray:
    """(n,) groups after the best exchange between every two of them, until none gains.

    gains: (n, G). ids: (n,) groups at present, of any sizes; they keep their sizes. The best
    exchange of two groups is found by sorting what each member would gain: exact for two groups, a
    local optimum for more. Disjoint pairs are looked at together, as in a tournament.
    """
    members, groups = gains.shape
    sizes = np.bincount(ids, minlength=groups)
    table = np.full((groups, int(sizes.max())), members)  # `members` where there is no member
    own = np.arange(table.shape[1]) < sizes[:, None]
    table[own] = np.argsort(ids, kind="stable")
    padded = np.vstack([gains, np.zeros(groups)])
    least = TINY * float(np.abs(gains).max())
    rounds = pairings(groups)
    # A list, as `any` of a generator would stop at the first exchange of a round.
    while any([_exchange(padded, table, left, right, least) for left, right in rounds]):  # noqa: C419
        pass
    out = np.empty_like(ids)
    out[table[own]] = np.repeat(np.arange(groups), sizes)
    return out


def _exchange(
    gains: FloatArray, table: IntArray, left: IntArray, right: IntArray, least: float
) -> bool:
    """Exchange members of groups left[i] and right[i], in place; whether anything changed."""
    moves = [_moves(gains, table, here, there) for here, there in ((left, right), (right, left))]
    useful = moves[0].max(1) + moves[1].max(1) > least
    if not useful.any():
        return False
    ordered, gained = [], []
    for here, move in zip((left[useful], right[useful]), moves, strict=True):
        order = np.argsort(-move[useful], axis=1, kind="stable")
        ordered.append(table[here[:, None], order])
        gained.append(move[np.flatnonzero(useful)[:, None], order])
    better = gained[0] + gained[1] > least
    table[left[useful]] = np.where(better, ordered[1], ordered[0])
    table[right[useful]] = np.where(better, ordered[0], ordered[1])
    return True


def _moves(gains: FloatArray, table: IntArray, here: IntArray, there: IntArray) -> FloatArray:
    """(pairs, members) what each member of a group gains in the other one; nobody never moves."""
    members = table[here]
    moves = gains[members, there[:, None]] - gains[members, here[:, None]]
    moves[members == len(gains) - 1] = -np.inf
    return np.asarray(moves)


@cache
def pairings(groups: int) -> tuple[tuple[IntArray, IntArray], ...]:
    """Rounds of a tournament: each is disjoint pairs, all together are every pair once.

    >>> [list(zip(a.tolist(), b.tolist())) for a, b in pairings(4)]
    [[(0, 3), (1, 2)], [(0, 2), (3, 1)], [(0, 1), (2, 3)]]
    """
    seats = np.arange(groups + groups % 2)
    half, rounds = len(seats) // 2, []
    for _ in range(len(seats) - 1):
        left, right = seats[:half], seats[: half - 1 : -1]
        real = (left < groups) & (right < groups)
        rounds.append((left[real], right[real]))
        seats[1:] = np.roll(seats[1:], 1)
    return tuple(rounds)

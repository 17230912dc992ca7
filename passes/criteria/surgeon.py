"""Optimal brain surgeon by blocks: the error that stays after re-solving, as groups leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.problem import FloatArray

EXACT_ROWS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """A weight that reads channels of a hyperedge, and can be solved again without some of them.

    inverse: (n b, n b) the inverse of its Gram matrix, of the b rows of each of n groups, group
    after group. weight: (n b, m) the weight of these rows. factor: of its error. groups: (n,)
    which groups of the hyperedge these are, ascending.
    """

    inverse: FloatArray
    weight: FloatArray
    groups: NDArray[np.int64]
    factor: float


class _State:
    """What is left of one reader. Rows of groups that have gone are 0 in `inverse` and `weight`."""

    def __init__(self, reader: Reader) -> None:
        self.groups = reader.groups
        self.alive = np.ones(len(self.groups), bool)
        self.factor = reader.factor
        self.block = len(reader.weight) // max(len(reader.groups), 1)
        self.inverse = reader.inverse.copy()
        self.weight = narrow(reader.weight)

    def costs(self) -> tuple[NDArray[np.int64], FloatArray]:
        """The groups left, and the error that each alone adds: tr(W_j' (H^-1)_jj^-1 W_j)."""
        n, b = len(self.groups), self.block
        here = np.flatnonzero(self.alive)
        if not len(here):
            return self.groups, np.zeros(0)
        blocks = self.inverse.reshape(n, b, n, b)[here, :, here]
        own = self.weight.reshape(n, b, -1)[here]
        if b == 1:
            found = (own[:, 0] ** 2).sum(1) / blocks[:, 0, 0]
        else:
            found = (own * np.linalg.solve(blocks, own)).sum((1, 2))
        return self.groups[here], np.maximum(found, 0.0) * self.factor

    def remove(self, gone: NDArray[np.int64]) -> float:
        """Solve the rest again without these groups; returns the error that this adds."""
        out = self.alive & np.isin(self.groups, gone)
        if not out.any():
            return 0.0
        rows = np.flatnonzero(np.repeat(out, self.block))
        across, own = self.inverse[rows], self.weight[rows]
        solved = np.linalg.solve(across[:, rows], np.concatenate([across, own], 1))
        own_solved = solved[:, across.shape[1] :]
        added = float((own * own_solved).sum())
        self.weight -= across.T @ own_solved
        self.inverse -= across.T @ solved[:, : across.shape[1]]
        self.alive &= ~out
        self._compact()
        return max(added, 0.0) * self.factor

    def _compact(self) -> None:
        """Drop rows once half of them have gone: every time would copy more than it saves."""
        if 2 * self.alive.sum() > len(self.alive):
            return
        rows = np.flatnonzero(np.repeat(self.alive, self.block))
        self.inverse, self.weight = self.inverse[np.ix_(rows, rows)], self.weight[rows]
        self.groups, self.alive = self.groups[self.alive], np.ones(len(rows) // self.block, bool)


def narrow(weight: FloatArray) -> FloatArray:
    """A weight (r, min(r, m)) with the same products between rows: all that errors depend on."""
    rows, columns = weight.shape
    if columns <= rows:
        return weight.copy()
    return np.ascontiguousarray(np.linalg.qr(weight.T)[1].T)


def eliminate(
    size: int, readers: Sequence[Reader], exact_rows: int = EXACT_ROWS
) -> tuple[NDArray[np.int64], FloatArray]:
    """Remove one group after the other, always the one that the readers miss least.

    Returns the order in which they left, (size,), and the error that each added, (size,), >= 0.
    Groups that nobody reads leave first. What leaves changes what the others are worth: two that
    can stand in for each other don't both leave cheaply. Up to `exact_rows` rows of the widest
    reader every group leaves alone; above, ``ceil(rows / exact_rows)`` leave together and share
    what they add in proportion to what each would add alone. Cubic in the rows. Source: Hassibi &
    Stork, NeurIPS 1993, equation 5, by blocks.
    """
    states = [_State(reader) for reader in readers]
    widest = max((len(reader.weight) for reader in readers), default=0)
    together = max(1, -(-widest // max(exact_rows, 1)))
    left = np.arange(size)
    order: list[NDArray[np.int64]] = []
    added: list[FloatArray] = []
    while len(left):
        total = np.zeros(size)
        for state in states:
            groups, costs = state.costs()
            total[groups] += costs
        ranks = np.argsort(total[left], kind="stable")[:together]
        gone = left[ranks]
        error = sum(state.remove(gone) for state in states)
        alone = total[gone]
        share = alone / alone.sum() if alone.sum() > 0 else np.full(len(gone), 1 / len(gone))
        order.append(gone)
        added.append(error * share)
        left = np.delete(left, ranks)
    if not order:
        return np.zeros(0, np.int64), np.zeros(0)
    return np.concatenate(order), np.concatenate(added)


def rising(steps: FloatArray) -> FloatArray:
    """(n,) no step below an earlier one, and none equal: scores that rank in this order.

    A group that leaves after a dear one may be cheap, for it was of use with the other only; who
    keeps the best scores must not see it as cheaper than what had to leave before.
    """
    highest = np.maximum.accumulate(np.maximum(steps, 0.0))
    least = 1e-9 * float(highest.max(initial=0.0)) / max(len(steps), 1)
    return np.asarray(highest + least * np.arange(1, len(steps) + 1))

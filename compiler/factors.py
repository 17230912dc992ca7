"""Reshapes that merge or split axes: which of the factors stays removable."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.labels import FROZEN, Coupler, Factor, Labels
from prunec.compiler.reasons import Reason

Marks = NDArray[np.bool_]  # (number of labels,) by representative


def settle(c: Coupler) -> None:
    """Decide every pending factor, in graph order: one factor is removable, the others stay.

    A merge or a split must come out rectangular. Attention heads are chosen under
    `Freedom.heads`, other axes otherwise; among those the one that leaves most groups.
    """
    heads = _heads(c)
    for pending in c.factors:
        c.node = pending.node
        touched = np.concatenate([pending.cells, *pending.factors])
        marked = touched[heads[c.find(touched)]]
        _choose(c, pending, heads)
        heads[c.find(marked)] = True  # representatives have changed
        heads[FROZEN] = False
    c.factors.clear()


def _heads(c: Coupler) -> Marks:
    """Marks of the labels along which attention runs head by head."""
    heads = np.zeros(c.size, bool)
    for labels in c.heads:
        heads[c.find(labels)] = True
    heads[FROZEN] = False
    for pending in reversed(c.factors):
        if heads[c.find(pending.cells)].any():  # batch and heads merged, or KV heads repeated
            for labels in pending.factors:
                heads[c.find(labels)] = True
            heads[FROZEN] = False
    return heads


def _choose(c: Coupler, pending: Factor, heads: Marks) -> None:
    sizes = tuple(len(f) for f in pending.factors)
    if not all(sizes):
        return
    cells = pending.cells.reshape(sizes)
    roots = c.find(cells)
    removable = [bool(c.find(f).any()) for f in pending.factors]
    candidates = [t for t in range(len(sizes)) if removable[t] and sizes[t] > 1]
    if not roots.any():
        candidates = []
    best = max(
        candidates,
        key=lambda t: (
            bool(heads[c.find(pending.factors[t])].any()) == c.freedom.heads,
            _groups_left(c, roots, pending.factors[t], t),
            -t,
        ),
        default=None,
    )
    for t, labels in enumerate(pending.factors):
        if t != best:
            text = "one of several axes that a reshape merges or splits"
            c.freeze(labels, Reason.MERGE_OF_FREE_AXES, text)
    if best is None:
        text = "a reshape merges or splits it with axes that stay whole"
        c.freeze(cells, Reason.MERGE_OF_FREE_AXES, text)
        return
    shape = [1] * len(sizes)
    shape[best] = sizes[best]
    c.tie(cells, pending.factors[best].reshape(shape), "reshape")


def _groups_left(c: Coupler, roots: NDArray[np.int64], factor: Labels, axis: int) -> int:
    """How many removable groups remain when `axis` of the cells is the removable one."""
    lines = np.moveaxis(roots, axis, 0).reshape(len(factor), -1)
    own = c.find(factor)
    trial = Coupler()
    names, local = np.unique(
        np.concatenate([[FROZEN], own, lines.reshape(-1)]), return_inverse=True
    )
    trial.fresh(len(names) - 1)
    local = local.astype(np.int64)
    mine = local[1 : 1 + len(factor)]
    trial.tie(mine[:, None], local[1 + len(factor) :].reshape(lines.shape))
    left = np.unique(trial.find(mine))
    return len(left) - int(left[0] == FROZEN)

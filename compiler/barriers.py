"""The nearest barrier of every channel that can't leave: one breadth-first pass over the ties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.hypergraph import KEPT, Trace
from prunec.compiler.labels import FROZEN
from prunec.compiler.reasons import Reason

REASONS = tuple(Reason)
_CODES = {reason: code for code, reason in enumerate(REASONS)}
NONE = -1
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Barriers:
    """Why each label stays.

    codes: (labels,) index into REASONS, NONE where it can leave. ties, before: (labels,) the tie
    over which the shortest way to the barrier starts, and the label at its other end: FROZEN at
    the barrier itself. NONE where no tie is to blame.
    """

    codes: Ints
    ties: Ints
    before: Ints

    def reason(self, label: int) -> Reason | None:
        """Why one label stays, or None."""
        code = int(self.codes[label])
        return None if code == NONE else REASONS[code]


def nearest_barriers(trace: Trace) -> Barriers:
    """The freeze that reaches each label over the fewest ties; of several, the first in the graph.

    A tie with an axis that was frozen from the start counts as a freeze for the reason that came
    with the axis, else FIXED_AXIS. Labels that no freeze reaches are LAST_GROUP where a weight
    makes them, else NO_WEIGHT. Linear in the length of all ties, in whole-array steps: one a
    distance.
    """
    search = _Search(trace)
    search.start()
    while len(search.front):
        search.step()
    codes = search.codes
    untouched = (codes == NONE) & (trace.groups == KEPT)
    codes[untouched & (trace.components == KEPT)] = _CODES[Reason.NO_WEIGHT]
    codes[untouched & (trace.components != KEPT)] = _CODES[Reason.LAST_GROUP]
    codes[FROZEN] = _CODES[Reason.FIXED_AXIS]
    return Barriers(codes, search.ties, search.before)


class _Search:
    """State of one pass; lives inside `nearest_barriers`."""

    def __init__(self, trace: Trace) -> None:
        size = len(trace.components)
        self.codes = np.full(size, NONE, np.int64)
        self.ties = np.full(size, NONE, np.int64)
        self.before = np.full(size, NONE, np.int64)
        self.barrier = np.array(
            [_CODES[tie.barrier or Reason.FIXED_AXIS] for tie in trace.ties], np.int64
        )
        self.vague = np.array([tie.barrier is None for tie in trace.ties], bool)
        self._links(trace)

    def _links(self, trace: Trace) -> None:
        """Both directions of every tie between labels that stay, sorted by where they start."""
        empty = [np.zeros(0, np.int64)]
        left = np.concatenate([tie.left for tie in trace.ties] or empty)
        right = np.concatenate([tie.right for tie in trace.ties] or empty)
        owner = np.repeat(np.arange(len(trace.ties)), [len(tie.left) for tie in trace.ties])
        matters = (left != right) & (trace.components[left] == KEPT)
        left, right, owner = left[matters], right[matters], owner[matters]
        start, end = np.concatenate([left, right]), np.concatenate([right, left])
        order = np.argsort(start, kind="stable")
        self.end, self.owner = end[order], np.concatenate([owner, owner])[order]
        sizes = np.bincount(start, minlength=len(self.codes))
        self.first = np.concatenate([[0], np.cumsum(sizes)])

    def start(self) -> None:
        """Labels that a freeze holds, or that meet a frozen axis."""
        link = np.arange(self.first[FROZEN], self.first[FROZEN + 1])
        # A stated reason says more than an axis that happens to be fixed.
        order = np.lexsort((self.owner[link], self.vague[self.owner[link]]))
        link = link[order]
        reached, at = np.unique(self.end[link], return_index=True)
        owner = self.owner[link[at]]
        self._enter(reached, self.barrier[owner], owner, np.full(len(at), FROZEN))
        self.codes[FROZEN] = _CODES[Reason.FIXED_AXIS]

    def step(self) -> None:
        """Labels one tie further away."""
        front = self.front
        count = self.first[front + 1] - self.first[front]
        begin = np.cumsum(count) - count
        link = np.arange(count.sum()) + np.repeat(self.first[front] - begin, count)
        source = np.repeat(front, count)
        new = self.codes[self.end[link]] == NONE
        link, source = link[new], source[new]
        order = np.argsort(self.owner[link], kind="stable")
        link, source = link[order], source[order]
        reached, at = np.unique(self.end[link], return_index=True)
        source = source[at]
        self._enter(reached, self.codes[source], self.owner[link[at]], source)

    def _enter(self, reached: Ints, codes: Ints, ties: Ints, before: Ints) -> None:
        self.codes[reached], self.ties[reached], self.before[reached] = codes, ties, before
        self.front = reached

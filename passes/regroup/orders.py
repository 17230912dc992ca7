"""Orders of the channels of every hyperedge, and the blocks that weights have under them.

A hyperedge is an assignment of contents (its channel groups) to places (the same groups, as they
lie in the model). A place lies in certain blocks of certain weights; places that lie in the same
are one class, and which of them a content has makes no difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from prunec.compiler.hypergraph import KEPT, Groups
from prunec.passes.regroup.blocks import FloatArray, IntArray, contiguous, indicator
from prunec.passes.regroup.scored import Scored

NOWHERE = -1  # block of a content whose place is not decided yet
Side = tuple[int, int]  # (index of the weight, 0 for its outputs and 1 for its inputs)


@dataclass(frozen=True, slots=True, eq=False)
class Occurrence:
    """Where a hyperedge of n groups lies on one side of one weight, m times.

    at: (n, m) positions of each group. blocks: (classes, m) the blocks that its places lie in.
    """

    side: Side
    at: IntArray
    blocks: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """A hyperedge that may be put in order.

    edge: its number. kind: (n,) class of each place, classes numbered from 0. capacity: (classes,)
    places of each. doubled: whether it is on both sides of one weight.
    """

    edge: int
    occurrences: tuple[Occurrence, ...]
    kind: IntArray
    capacity: IntArray
    doubled: bool


def places_of(scored: Sequence[Scored], edges: Groups, movable: Iterable[int]) -> list[Places]:
    """The hyperedges among `movable` whose order matters, by number.

    edges: (number_of_groups,) hyperedge of each group.
    """
    lying: dict[int, list[tuple[Side, IntArray]]] = defaultdict(list)
    for s, own in enumerate(scored):
        for side, groups in enumerate((own.outputs, own.inputs)):
            live = np.flatnonzero(groups != KEPT)
            live = live[np.argsort(groups[live], kind="stable")]
            edge = edges[groups[live]]
            for e in np.unique(edge).tolist():
                positions = live[edge == e]
                count = len(np.unique(groups[positions]))
                lying[e].append(((s, side), positions.reshape(count, -1)))
    allowed = set(movable)
    found = [_places(scored, e, lying[e]) for e in sorted(lying) if e in allowed]
    return [places for places in found if len(places.capacity) > 1]


def _places(scored: Sequence[Scored], e: int, lying: Sequence[tuple[Side, IntArray]]) -> Places:
    """Classes of the places of a hyperedge."""
    blocks = [at // _width(scored, side) for side, at in lying]
    distinct, kind = np.unique(np.concatenate(blocks, 1), axis=0, return_inverse=True)
    stops = np.cumsum([b.shape[1] for b in blocks])[:-1]
    parts = np.split(distinct, stops, 1)
    occurrences = tuple(
        Occurrence(side, at, part) for (side, at), part in zip(lying, parts, strict=True)
    )
    weights = [side[0] for side, _ in lying]
    kind = kind.reshape(-1).astype(np.int64)
    return Places(e, occurrences, kind, np.bincount(kind), len(set(weights)) < len(weights))


def _width(scored: Sequence[Scored], side: Side) -> int:
    own = scored[side[0]]
    return int(own.score.shape[side[1]]) // own.groups


class Orders:
    """The class of every content of every hyperedge; mutable, lives inside of the search.

    ids: per weight and side the block of the content at each position, NOWHERE where its hyperedge
    is not decided. kinds: per hyperedge (n,) the class of each content's place. sums: per weight
    and side (n, G) what a channel would keep in each block as the other side lies, in units of the
    worth; kept up to date with every change.
    """

    def __init__(self, scored: Sequence[Scored], places: Sequence[Places]) -> None:
        """In the natural order."""
        self.scored, self.places = scored, places
        self.ids = [[contiguous(n, s.groups) for n in s.score.shape] for s in scored]
        self.kinds = [p.kind.copy() for p in places]
        self._scores = [
            (s.score * s.scale, np.ascontiguousarray(s.score.T) * s.scale) for s in scored
        ]
        self.sums = [
            [both[k] @ indicator(ids[1 - k], s.groups) for k in range(2)]
            for s, both, ids in zip(scored, self._scores, self.ids, strict=True)
        ]

    def copy(self) -> Orders:
        """The same, to be changed without this one; scores are shared."""
        other = copy(self)
        other.ids = [[side.copy() for side in own] for own in self.ids]
        other.sums = [[side.copy() for side in own] for own in self.sums]
        other.kinds = list(self.kinds)
        return other

    def put(self, e: int, kinds: IntArray) -> None:
        """Let contents be at places of these classes; their sizes are those of the classes."""
        self.kinds[e] = kinds
        for o in self.places[e].occurrences:
            for at, blocks in zip(o.at.T, o.blocks.T, strict=True):
                self.lay(o.side, at, blocks[kinds])

    def forget(self, e: int) -> None:
        """Leave a hyperedge undecided: it adds nothing to what its weights keep."""
        for o in self.places[e].occurrences:
            for at in o.at.T:
                self.lay(o.side, at, np.full(len(at), NOWHERE))

    def lay(self, side: Side, at: IntArray, blocks: IntArray) -> None:
        """Let the contents at these positions of one side of a weight be in these blocks."""
        weight, which = side
        ids = self.ids[weight][which]
        new = ids[at] != blocks
        if new.any():
            at, blocks = at[new], blocks[new]
            groups = self.scored[weight].groups
            change = indicator(blocks, groups) - indicator(ids[at], groups)
            # Rows of the one copy are columns of the other.
            self.sums[weight][1 - which] += self._scores[weight][which][at].T @ change
            ids[at] = blocks

    def gains(self, e: int) -> FloatArray:
        """(n, classes) what each content adds in each class, the rest as it is.

        With a hyperedge on both sides of one weight that is only the first-order change.
        """
        places = self.places[e]
        out = np.zeros((len(places.kind), len(places.capacity)))
        for o in places.occurrences:
            weight, side = o.side
            for at, blocks in zip(o.at.T, o.blocks.T, strict=True):
                out += self.sums[weight][side][at[:, None], blocks]
        return out

    def value(self, weights: Iterable[int] | None = None) -> float:
        """What these weights keep, all by default, each in units of its worth."""
        return sum(map(self._kept, range(len(self.scored)) if weights is None else weights))

    def _kept(self, s: int) -> float:
        rows = self.ids[s][0]
        decided = np.flatnonzero(rows != NOWHERE)
        return float(self.sums[s][0][decided, rows[decided]].sum())

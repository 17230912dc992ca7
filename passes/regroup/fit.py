"""Contents of channels and places for them: what still fits after some demands are met."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.hypergraph import KEPT, Groups, Hypergraph
from prunec.passes.regroup.permute import Order

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """One side of a site. groups: (n,) channel group per position, KEPT where it can't move.

    blocks: (n,) the block of what stands naturally at each position. count: blocks. cost: elements
    that a Gather would move.
    """

    weight: str
    side: str
    groups: Groups
    blocks: IntArray
    count: int
    cost: int

    @property
    def places(self) -> IntArray:
        """(n,) the block that each position belongs to when blocks stand side by side."""
        return np.arange(len(self.blocks)) // (len(self.blocks) // self.count)


class Fit:
    """Which contents may stand at which places, after the demands that are met.

    contents, places: (number_of_groups,) classes: a group's contents may stand at a place of the
    same class; each class has as many of one as of the other. Mutable; lives inside `fold`.
    """

    def __init__(self, graph: Hypergraph) -> None:
        self.contents: IntArray = graph.edge_of_group()
        self.places: IntArray = self.contents
        self.numbers: dict[str, IntArray] = {}
        self.missed = 0

    def order(self) -> Order:
        """Within each class in the natural order."""
        out = np.empty(len(self.contents), np.int64)
        by_place = np.argsort(self.places, kind="stable")
        out[by_place] = np.argsort(self.contents, kind="stable")
        return out

    def meet(self, demand: Demand, other: Demand, numbered: bool = False) -> bool:
        """Whether the demand can be met beside those before; if so it is.

        other: the other side of the site: where blocks may be numbered in several ways, one that
        suits it too. numbered: block numbers are the positions of the blocks.
        """
        known = np.arange(demand.count) if numbered else self.numbers.get(demand.weight)
        own = self._columns(demand)
        if known is None:
            both = [np.concatenate(pair) for pair in zip(own, self._columns(other), strict=True)]
            known = _matched(*both)
            if known is None:
                known = _matched(*own)
        if known is None or not np.array_equal(own[0], own[1][:, known]):
            return False
        refined = self._refined(demand, known)
        if refined is None:
            return False
        self.contents, self.places = refined
        self.numbers[demand.weight] = known
        return True

    def _columns(self, demand: Demand) -> tuple[IntArray, IntArray]:
        """Per kind of position and block: how many contents, and how many places, it has.

        Positions are of a kind where classes and occurrence are the same; what can't move is alone.
        """
        live = demand.groups != KEPT
        occurrence = _occurrences(demand.groups)
        stuck = 2 * len(self.contents) + np.arange(len(live))  # classes have lower numbers
        kinds = []
        for classes in (self.contents, self.places):
            own = np.where(live, np.append(classes, KEPT)[demand.groups], stuck)
            kinds.append(own * (occurrence.max() + 1) + occurrence)
        _, rows = np.unique(np.concatenate(kinds), return_inverse=True)
        count, half = demand.count, len(live)
        shape = (int(rows.max()) + 1, count)
        sides = (rows[:half], demand.blocks), (rows[half:], demand.places)
        first, second = (
            np.bincount(row * count + block, minlength=shape[0] * count).reshape(shape)
            for row, block in sides
        )
        return first, second

    def _refined(self, demand: Demand, numbers: IntArray) -> tuple[IntArray, IntArray] | None:
        """The classes once the demand is met, or None where it can't be."""
        contents, places = self.contents, self.places
        live = demand.groups != KEPT
        occurrence = _occurrences(demand.groups)
        for k in range(int(occurrence.max()) + 1):
            at = live & (occurrence == k)
            own = demand.groups[at]
            contents = _within(contents, own, numbers[demand.blocks[at]], demand.count)
            places = _within(places, own, demand.places[at], demand.count)
            _, joint = np.unique(np.concatenate([contents, places]), return_inverse=True)
            contents, places = joint[: len(contents)], joint[len(contents) :]
        sizes = [np.bincount(c, minlength=2 * len(contents)) for c in (contents, places)]
        return (contents, places) if np.array_equal(sizes[0], sizes[1]) else None


def _within(classes: IntArray, groups: Groups, blocks: IntArray, count: int) -> IntArray:
    """Classes told apart by the blocks (0 ... count - 1) of these groups."""
    inside = np.full(len(classes), count)
    inside[groups] = blocks
    return np.asarray(classes * (count + 1) + inside)


def _occurrences(groups: Groups) -> IntArray:
    """(n,) how many positions before each one belong to its group; 0 where it can't move."""
    by_group = np.argsort(groups, kind="stable")
    own = groups[by_group]
    out = np.empty(len(groups), np.int64)
    out[by_group] = np.arange(len(own)) - np.searchsorted(own, own)
    return np.where(groups == KEPT, 0, out)


def _matched(contents: IntArray, places: IntArray) -> IntArray | None:
    """(G,) the block whose column of `places` equals each column of `contents`, or None.

    Columns are compared in the order of a 64-bit hash of each: equal ones in their own order.
    """
    mixing = np.random.default_rng(0).integers(1 << 62, size=len(contents))
    first, second = (np.argsort(mixing @ own, kind="stable") for own in (contents, places))
    if not np.array_equal(contents[:, first], places[:, second]):
        return None
    out = np.empty(len(first), np.int64)
    out[first] = second
    return out

"""Joint: one order per hyperedge, in which the blocks of all weights lie side by side.

What weights keep in sum is linear in the order of one hyperedge while the others stay: to find it
is an assignment. So orders are improved in turn (block-coordinate ascent), from several starts, and
restarted from shaken orders. Blocks of such orders fold without any Gather. With equal
numbers of groups everywhere, though, streams of channels never mix: some convolutions may be given
inputs in an order of their own (`own_inputs.py`), for one Gather each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Groups
from prunec.compiler.partition import Partition
from prunec.passes.regroup.assign import EXACT_SIZE, TINY, exchanged, placed
from prunec.passes.regroup.blocks import FloatArray, IntArray
from prunec.passes.regroup.doubled import improve_doubled
from prunec.passes.regroup.orders import NOWHERE, Orders, Places, places_of
from prunec.passes.regroup.own_inputs import Problem, gain_of_own, with_own_inputs
from prunec.passes.regroup.scored import Scored
from prunec.passes.regroup.search import Search

SHAKEN = 0.3  # of a hyperedge changes places at a restart
EFFORT = 1 << 27  # entries of gains that restarts may look at
FURTHER = 0.25  # of the restarts, after each Gather that is allowed: never less is kept with more
STEP = 1 << 14  # entries that take as long as a step does without any


@dataclass(frozen=True, slots=True)
class Joint:
    """How orders are searched.

    rounds: restarts per hyperedge; fewer in large models. seed: of what is shaken. gathers: weights
    that may read their inputs in an order of their own, at most; a Gather stands before these.
    """

    name: ClassVar[str] = "joint"
    rounds: int = 16
    seed: int = 0
    gathers: int = 0

    def __post_init__(self) -> None:
        for field in ("gathers", "rounds", "seed"):
            if getattr(self, field) < 0:
                raise UsageError(f"fold 'joint': {field} must not be below 0")

    def __call__(
        self, scored: Sequence[Scored], edges: Groups, movable: Iterable[int]
    ) -> dict[str, Partition]:
        """Weight -> its blocks: contiguous in one order per hyperedge, but for own inputs.

        edges: (number_of_groups,) hyperedge of each channel group. movable: hyperedges that may be
        put in another order; the others, and channels of no group, stay where they are.
        """
        problem = Problem(tuple(scored), edges, tuple(movable))
        places = places_of(scored, edges, problem.movable)
        orders = max(_starts(scored, places), key=lambda own: own.value())
        self._restart(orders)
        for _ in range(self.gathers):
            gains = [gain_of_own(orders, s) for s in range(len(scored))]
            best = int(np.argmax(gains)) if gains else 0
            if not gains or gains[best] <= TINY * orders.value():
                break
            problem, orders = with_own_inputs(problem, orders, best)
            ascend(orders, neighbours(orders.places), range(len(orders.places)))
            self._restart(orders, FURTHER)
        return {own.weight: Partition.of(*orders.ids[s]) for s, own in enumerate(scored)}

    def _restart(self, orders: Orders, share: float = 1.0) -> None:
        """Shake one hyperedge, improve it and what depends on it; keep that where it is better.

        share: of the rounds and of the effort.
        """
        near = neighbours(orders.places)
        generator = np.random.default_rng(self.seed)
        effort, rounds = share * EFFORT, round(share * self.rounds)
        for e in [e for _ in range(rounds) for e in range(len(orders.places))]:
            before, kinds = orders.value(), [k.copy() for k in orders.kinds]
            orders.put(e, _shaken(orders.kinds[e], generator))
            effort -= ascend(orders, near, [*near[e], e])
            if orders.value() <= before:
                for other, own in enumerate(kinds):
                    if (own != orders.kinds[other]).any():
                        orders.put(other, own)
            if effort < 0:
                return


def neighbours(places: Sequence[Places]) -> list[list[int]]:
    """Per hyperedge the others that share a weight with it."""
    weights = [{o.side[0] for o in p.occurrences} for p in places]
    return [
        [f for f, theirs in enumerate(weights) if f != e and own & theirs]
        for e, own in enumerate(weights)
    ]


def ascend(orders: Orders, near: Sequence[Sequence[int]], first: Iterable[int]) -> int:
    """Improve hyperedges in turn, from these on, until none gains; returns the effort."""
    queue = deque(first)
    waiting, effort = set(queue), 0
    while queue:
        e = queue.popleft()
        waiting.discard(e)
        effort += _effort(orders.places[e])
        if improve(orders, e):
            for other in near[e]:
                if other not in waiting:
                    waiting.add(other)
                    queue.append(other)
    return effort


def improve(orders: Orders, e: int) -> bool:
    """Give one hyperedge the best order beside the others; whether that gained."""
    places, kinds = orders.places[e], orders.kinds[e]
    gains = orders.gains(e)
    found = _assigned(gains, places.capacity, kinds)
    least = TINY * float(np.abs(gains).sum())
    if places.doubled:
        return improve_doubled(orders, e, found, least)
    row = np.arange(len(kinds))
    gained = float((gains[row, found] - gains[row, kinds]).sum()) > least
    if gained:
        orders.put(e, found)
    return gained


def _assigned(gains: FloatArray, capacity: IntArray, kinds: IntArray) -> IntArray:
    if len(capacity) == 2 or len(gains) > EXACT_SIZE:
        return exchanged(gains, kinds)
    return placed(gains, capacity)


def _shaken(kinds: IntArray, generator: np.random.Generator) -> IntArray:
    moved = generator.choice(len(kinds), max(2, int(SHAKEN * len(kinds))), replace=False)
    out = kinds.copy()
    out[moved] = kinds[np.roll(moved, 1)]
    return out


def _effort(places: Places) -> int:
    columns = sum(int(o.at.shape[1]) for o in places.occurrences)
    return STEP + len(places.kind) * len(places.capacity) * columns


def _starts(scored: Sequence[Scored], places: Sequence[Places]) -> list[Orders]:
    """The natural order, and orders that grow weight by weight; all improved."""
    near = neighbours(places)
    natural = list(range(len(scored)))
    heavy = sorted(natural, key=lambda s: (-scored[s].worth, -scored[s].score.size, s))
    starts = [Orders(scored, places)]
    for turn in (natural, natural[::-1], heavy):
        orders = starts[0].copy()
        grow(orders, turn)
        starts.append(orders)
    for orders in starts:
        ascend(orders, near, range(len(places)))
    return starts


def grow(orders: Orders, turn: Iterable[int]) -> None:
    """Decide on the hyperedges of one weight after the other, by those that are decided.

    Where none is, the best blocks of the weight alone decide.
    """
    lying: list[list[int]] = [[] for _ in orders.scored]
    for e, places in enumerate(orders.places):
        orders.forget(e)
        for s in sorted({o.side[0] for o in places.occurrences}):
            lying[s].append(e)
    decided: set[int] = set()
    for s in turn:
        undecided = [e for e in lying[s] if e not in decided]
        if len(undecided) == len(lying[s]) and undecided:
            own = orders.scored[s]
            wanted = Search(rounds=2)(own.score, own.groups)
            for side, blocks in enumerate((wanted.outputs, wanted.inputs)):
                open_at = np.flatnonzero(orders.ids[s][side] == NOWHERE)
                orders.lay((s, side), open_at, np.array(blocks)[open_at])
        for e in undecided:
            places = orders.places[e]
            orders.put(e, _assigned(orders.gains(e), places.capacity, places.kind))
            decided.add(e)

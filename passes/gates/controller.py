"""How gates close: by what they bring for what they cost, as many as the budget asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.problem import FloatArray
from prunec.passes.gates.goal import Goal

Mask = NDArray[np.bool_]
HELD = 2.0  # logits above the threshold at least, where a gate can't close: open nine times in ten
ALWAYS = 30.0  # logits of what is protected
LEAST = 1e-6  # of the mean gain: what a group without any counts


@dataclass(frozen=True, slots=True)
class Pace:
    """ramp: steps after which the budget is met; warmup: steps of these in which nothing closes.

    sharpness: logits by which a gate opens when its gain grows e-fold. memory: steps over which
    gains are averaged. threshold: the logit at which a gate closes for good. adaptive: costs of
    channels at the counts that are left, else at the dense ones.
    """

    ramp: int
    warmup: int = 0
    sharpness: float = 4.0
    memory: int = 30
    threshold: float = 0.0
    adaptive: bool = True


class Controller:
    """The gate parameters theta, (number_of_groups,), and which gates are open.

    A group's gain is what the loss gains by its being open over what it costs, the quotient by
    which the published rule for the learning rates of gates ranks them (Gator, section 3.3). The
    price, in the place of its `criteria_weight`, is the gain at which a gate closes: the least one
    at which the cost follows a straight line to the budget. ``theta = threshold + sharpness *
    log(gain / price)``, at most the first theta: gates near the price are drawn closed now and
    then, those far above hardly ever. What is closed stays so. The last to close is the one whose
    loss is least of those that meet the budget alone; then what closed last opens again where there
    is room.
    """

    def __init__(self, goal: Goal, theta: FloatArray, pace: Pace) -> None:
        self.goal, self.pace = goal, pace
        self._edge = goal.graph.edge_of_group()
        sizes = np.array(goal.graph.dense(), np.int64)
        self._protected: Mask = (goal.floors >= sizes)[self._edge]
        self._first = np.where(self._protected, ALWAYS, theta)
        self.theta = self._first.copy()
        self.open: Mask = np.ones(len(theta), bool)
        self.closed_at = np.zeros(len(theta), np.int64)
        self.gain: FloatArray = np.zeros(len(theta))
        self.steps = 0
        self.price = 0.0

    @property
    def counts(self) -> list[int]:
        """Open gates of each hyperedge."""
        number = len(self.goal.graph.edges)
        return [int(n) for n in np.bincount(self._edge[self.open], minlength=number)]

    @property
    def met(self) -> bool:
        """Whether the budget is met."""
        return self.goal.within(self.counts)

    def step(self, evidence: FloatArray) -> None:
        """Close gates and move the others. evidence: (number_of_groups,), what the loss gains by
        each group's being open, in its units; groups that are closed have no say.
        """
        self.steps += 1
        counts = self.counts if self.pace.adaptive else list(self.goal.graph.dense())
        found = evidence / self.goal.weights(counts)[self._edge]
        share = 1 / min(self.steps, max(self.pace.memory, 1))
        self.gain += np.where(self.open, share * (found - self.gain), 0.0)
        warmup = min(self.pace.warmup, self.pace.ramp - 1)
        progress = (self.steps - warmup) / max(self.pace.ramp - warmup, 1)
        if progress > 0:
            self._close(min(progress, 1.0))
        self._move()

    def _close(self, progress: float) -> None:
        """As many as the cost asks for by now, those of the least gain."""
        leave = self._removable()
        asked = self._least(leave, progress)
        if asked:
            self.price = float(self.gain[leave[asked - 1]])
        close = leave[:asked]
        if asked and self.goal.within(self._without(close)):
            close = np.append(
                leave[: asked - 1], self._last(leave[: asked - 1], leave[asked - 1 :])
            )
        self.open[close] = False
        self.closed_at[close] = self.steps
        if self.met:
            self._refill()

    def _last(self, close: NDArray[np.int64], rest: NDArray[np.int64]) -> int:
        """Which of `rest` meets the budget, after `close`, at the least loss, whatever it costs."""
        weights = self.goal.weights(self._without(close))
        _, first = np.unique(self._edge[rest], return_index=True)
        enough = [
            int(group)
            for group in rest[np.sort(first)]
            if self.goal.within(self._without(np.append(close, group)))
        ]
        return min(enough, key=lambda group: self.gain[group] * weights[self._edge[group]])

    def _move(self) -> None:
        """Set theta by gain and price."""
        least = LEAST * float(np.abs(self.gain).mean())
        if self.price > 0 and least > 0:
            ratio = np.maximum(self.gain, least) / max(self.price, least)
            theta = self.pace.threshold + self.pace.sharpness * np.log(ratio)
            self.theta = np.clip(theta, self.pace.threshold, self._first)
        held = best_of_each(self.gain, self.open, self._edge, self.goal.floors)
        self.theta[held] = np.maximum(self.theta[held], self.pace.threshold + HELD)
        self.theta[self._protected] = ALWAYS

    def openness(self) -> FloatArray:
        """(number_of_groups,) see `probabilities`."""
        least = float(1 / (1 + np.exp(-self.pace.threshold)))
        return probabilities(self.theta, self.open, self.closed_at, self.steps, least)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "theta": self.theta.tolist(),
            "open": self.open.tolist(),
            "closed_at": self.closed_at.tolist(),
            "steps": self.steps,
            "gain": self.gain.tolist(),
            "price": self.price,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.theta = np.array(state["theta"], np.float64)
        self.open = np.array(state["open"], bool)
        self.closed_at = np.array(state["closed_at"], np.int64)
        self.gain = np.array(state["gain"], np.float64)
        self.steps, self.price = state["steps"], state["price"]

    def _removable(self) -> NDArray[np.int64]:
        """Open groups that may close, the least first; the best of each hyperedge stay."""
        order = np.argsort(self.gain, kind="stable")
        order = order[self.open[order]]
        best = best_of_each(self.gain, self.open, self._edge, self.goal.floors)
        return np.asarray(order[~best[order]])

    def _refill(self) -> None:
        """Open what the budget has room for, the last to close first."""
        closed = np.flatnonzero(~self.open)
        counts = self.counts
        for group in closed[np.argsort(-self.closed_at[closed], kind="stable")]:
            edge = int(self._edge[group])
            counts[edge] += 1
            if self.goal.within(counts):
                self.open[group] = True
            else:
                counts[edge] -= 1

    def _least(self, leave: NDArray[np.int64], progress: float) -> int:
        """How many of `leave` must close, at least, for the cost to be where it should be."""
        low, high = 0, len(leave)
        while low < high:
            middle = (low + high) // 2
            if self.goal.within(self._without(leave[:middle]), progress):
                high = middle
            else:
                low = middle + 1
        return low

    def _without(self, closing: NDArray[np.int64]) -> Sequence[int]:
        lost = np.bincount(self._edge[closing], minlength=len(self.goal.graph.edges))
        return [n - int(k) for n, k in zip(self.counts, lost, strict=True)]


def probabilities(
    theta: FloatArray, still: Mask, closed_at: NDArray[np.int64], steps: int, threshold: float
) -> FloatArray:
    """(number_of_groups,) of open gates the probability sigmoid(theta), at least the threshold.

    Of closed ones less than a hundredth of that, the more the later they closed: what they are
    worth where a solver has room for more.
    """
    late = (1 + closed_at) / (2 + steps)
    likely = np.maximum(1 / (1 + np.exp(-theta)), threshold)
    return np.asarray(np.where(still, likely, 0.01 * threshold * late))


def best_of_each(
    rank: FloatArray, still: Mask, edge: NDArray[np.int64], floors: NDArray[np.int64]
) -> Mask:
    """(number_of_groups,) whether a group is among the `floors` best open ones of its hyperedge.

    Of equals the later ones are the better.
    """
    order = np.lexsort((rank, ~still, edge))  # by hyperedge, open ones first, then ascending
    counts = np.bincount(edge[still], minlength=len(floors))
    sizes = np.bincount(edge, minlength=len(floors))
    place = np.arange(len(edge)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    best = np.zeros(len(edge), bool)
    own = edge[order]
    best[order] = (place < counts[own]) & (place >= counts[own] - floors[own])
    return best

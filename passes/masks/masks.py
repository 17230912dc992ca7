"""Masks: pruning during training, by what activations or weights show on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray
from prunec.compiler.spec import suggest
from prunec.compiler.stats import Stats
from prunec.passes.gates.goal import Goal
from prunec.passes.masks.schedule import ORDERS, Timetable, layerwise, one_shot, stepwise
from prunec.passes.pose import allowed_levels

SCHEDULES = ("layerwise", "one-shot", "stepwise")
STATISTICS = ("running", "l0", "magnitude")
FINEST = 1000  # sparsities that are tried


@dataclass(frozen=True, slots=True)
class Masks:
    """Masks on channel groups that are set while the weights learn, by one of three schedules.

    schedule: layerwise (one hyperedge after the other, each on inputs that are masked already),
    one-shot (all at once, when layerwise would be done), stepwise (a cubic ramp of `repetition`
    rises; rampup: the first after an interval). statistic: running (average of mean |a| where
    channels are read), l0 (share of non-zeros behind a ReLU), magnitude (of weights, of the step
    alone). sparsity: of every hyperedge, 0: what the budget asks for. start: steps before;
    interval: steps per hyperedge or rise, 0: as many as fit `ramp`, a share of all steps. refresh:
    steps between masks. order: top (from the input), bottom, shuffle (by seed). published: the mask
    rule with its off-by-one. Source: mdpi2022, Appl. Sci. 12, 7829, section 3.
    """

    name: ClassVar[str] = "masks"
    needs: ClassVar[str] = "masks"
    schedule: str = "layerwise"
    statistic: str = "running"
    sparsity: float = 0.0
    start: int = 0
    interval: int = 0
    refresh: int = 1
    repetition: int = 5
    rampup: bool = False
    order: str = "top"
    seed: int = 0
    ramp: float = 0.6
    published: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for options that mean nothing."""
        for key, known in (("schedule", SCHEDULES), ("statistic", STATISTICS), ("order", ORDERS)):
            word = getattr(self, key)
            if word not in known:
                raise UsageError(f"masks: unknown {key} {word!r}{suggest(word, known)}")
        for key, least in (
            ("start", 0), ("interval", 0), ("refresh", 1), ("repetition", 1), ("seed", 0),
        ):  # fmt: skip
            if getattr(self, key) < least:
                raise UsageError(f"masks: {key} must be at least {least}, not {getattr(self, key)}")
        if not (0 <= self.sparsity < 1 and 0 < self.ramp <= 1):
            raise UsageError("masks: sparsity lies in [0, 1), ramp in (0, 1]")

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> FloatArray:
        """(number_of_groups,) in [0, 2]: above 1 where the mask leaves a group."""
        assert stats is not None and stats.openness is not None
        return stats.openness

    def timetables(self, hyperedges: int, steps: int) -> tuple[Timetable, ...]:
        """One per hyperedge, for a training of so many steps. Raises UsageError without room."""
        turns = self.repetition if self.schedule == "stepwise" else hyperedges
        pause = 0 if self.schedule == "stepwise" else 1
        room = int(steps * self.ramp) - self.start
        interval = self.interval or room // max(turns, 1) - pause
        end = self.start + turns * (interval + pause)
        if interval < 1 or end >= steps:
            least = self.start + turns * (1 + pause) + 1
            raise UsageError(
                f"masks: {self.schedule} over {turns} turns needs more than {steps} steps: train "
                f"longer, or give a smaller start or interval (at least {least} steps in all)"
            )
        if self.schedule == "one-shot":
            return one_shot(hyperedges, self.start, interval)
        if self.schedule == "stepwise":
            return stepwise(hyperedges, self.start, interval, self.repetition, self.rampup)
        return layerwise(hyperedges, self.start, interval, self.refresh, self.order, self.seed)


def targets(goal: Goal, sparsity: float) -> FloatArray:
    """(number of hyperedges,) shares that leave: the same everywhere, as near as levels allow.

    sparsity: 0 for the least at which every budget is met. Raises UsageError where none does.
    """
    assert goal.options is not None
    levels, _ = allowed_levels(goal.graph, goal.options)
    sizes = np.array(goal.graph.dense(), np.int64)
    allowed = [np.array([n for n in own if n], np.int64) for own in levels]

    def counts(share: float) -> list[int]:
        wanted = sizes * (1 - share)
        return [
            int(own[np.argmin(np.abs(own - w))]) for own, w in zip(allowed, wanted, strict=True)
        ]

    if not sparsity:
        low, high = 0, FINEST
        while low < high:
            middle = (low + high) // 2
            if goal.within(counts(middle / FINEST)):
                high = middle
            else:
                low = middle + 1
        sparsity = low / FINEST
        if not goal.within(counts(sparsity)):
            raise UsageError(
                "masks: no sparsity of all hyperedges meets the budget; give sparsity="
            )
    return np.asarray(1 - np.array(counts(sparsity)) / sizes)

"""Training under masks that schedules set on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunec.compiler.errors import UsageError
from prunec.compiler.problem import FloatArray
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.gates.goal import Goal
from prunec.passes.masks.masks import Masks, targets
from prunec.passes.masks.tracker import Tracker
from prunec.runtime.gates.learn import learn
from prunec.runtime.gates.session import Gated, Session, steps_of
from prunec.runtime.torch_view import TorchView
from prunec.runtime.torch_view.points import Point
from prunec.runtime.torch_view.run import composed
from prunec.runtime.training.batch import Batch
from prunec.runtime.training.fit import Extras, StepInfo
from prunec.runtime.training.losses import Terms


def train_masks(session: Session, goal: Goal, how: Masks, extras: Extras) -> Gated:
    """Train the weights under masks until the steps are made. Raises PrunecError."""
    graph = session.subject.graph
    order = reading_order(session.gated.points, graph.edge_of_group(), len(graph.edges))
    tables = how.timetables(len(graph.edges), steps_of(session))
    shares = targets(goal, how.sparsity)
    trackers: list[Tracker] = [
        Tracker(
            edge.size,
            tables[order.index(e)],
            float(shares[e]),
            published=how.published,
            floor=int(goal.floors[e]),
        )
        for e, edge in enumerate(graph.edges)
    ]
    loss = Masked(session, trackers, how)
    history = learn(session, loss, "masks", (), extras)
    counts = [int(t.mask.sum()) for t in trackers]
    record = {
        "steps": history.steps,
        "reached": goal.reached(counts),
        "open": sum(counts),
        "sparsity": {e.name: float(s) for e, s in zip(graph.edges, shares, strict=True)},
    }
    return Gated(np.concatenate([_openness(t) for t in trackers]), history, {"masks": record})


def reading_order(
    points: Sequence[Point], edge: np.ndarray[tuple[int, ...], np.dtype[np.int64]], number: int
) -> list[int]:
    """Hyperedges in the order in which the graph first reads them; the unread come last."""
    found = [int(e) for p in points for e in edge[p.groups[p.groups >= 0]]]
    return list(dict.fromkeys([*found, *range(number)]))


def _openness(tracker: Tracker) -> FloatArray:
    """(n,) the statistic over its largest, plus 1 where the mask is open."""
    largest = max(float(tracker.statistic.max(initial=0)), 1e-30)
    return np.asarray(tracker.statistic / largest + tracker.mask)


@dataclass(slots=True, eq=False)
class Seen:
    """Sums over points of what they show of their groups: importance, and how many showed any."""

    importance: Tensor
    points: Tensor


@dataclass(slots=True, eq=False)
class Masked:
    """The loss of outputs under the masks; see `Tracker` for when these change.

    A mask acts from the step after the one whose statistics it was made of.
    """

    session: Session
    trackers: Sequence[Tracker]
    how: Masks
    seen: Seen | None = None
    step: int = 0
    edits: Mapping[Any, Callable[[Tensor], Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points = self.session.gated.points
        self.edits = {
            at: partial(self._masked, points=tuple(own))
            for at, own in groupby(points, lambda p: (p.node, p.position))
        }
        first = next((p for p in points if p.shared and self.how.statistic != "magnitude"), None)
        if first is not None and not any(not p.shared for p in points):
            raise UsageError("masks: no activation shows its channels; give statistic=magnitude")

    @property
    def mask(self) -> Tensor:
        """(number_of_groups + 1,) 1 = open, the last for what never leaves."""
        whole = np.concatenate([*(t.mask for t in self.trackers), [True]])
        return torch.as_tensor(whole, dtype=torch.float32)

    def __call__(self, view: TorchView, batch: Batch) -> Terms:
        """Terms of the outputs' loss."""
        device = next(iter(batch.feeds.values())).device
        size = self.session.subject.graph.number_of_groups + 1
        wants = any(t.wants(self.step) for t in self.trackers)
        if wants and self.how.statistic != "magnitude" and self.seen is None:
            self.seen = Seen(*(torch.zeros(size, device=device) for _ in range(2)))
        edits = composed(self.session.edits(), self.edits)
        found = view(batch.feeds, self.session.wanted, edits)
        return self.session.terms(found, batch)

    def on_step(self, info: StepInfo) -> None:
        """Hand the trackers what the step showed."""
        if any(t.wants(self.step) for t in self.trackers):
            importance = self._importance()
            for tracker, edge in zip(self.trackers, self.session.subject.graph.edges, strict=True):
                tracker.advance(self.step, importance[edge.first : edge.first + edge.size])
        self.seen = None
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {
            "step": self.step,
            "statistics": [t.statistic.tolist() for t in self.trackers],
            "masks": [t.mask.tolist() for t in self.trackers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.step = state["step"]
        for tracker, statistic, mask in zip(
            self.trackers, state["statistics"], state["masks"], strict=True
        ):
            tracker.statistic = np.array(statistic, np.float64)
            tracker.mask = np.array(mask, bool)

    def _importance(self) -> FloatArray:
        """(number_of_groups,) of the step that was just made."""
        graph = self.session.subject.graph
        if self.how.statistic == "magnitude":
            return Magnitude(p=1)(self.session.view.to_model(), graph, None)
        assert self.seen is not None
        mean = self.seen.importance / self.seen.points.clamp_min(1)
        self.session.machine.average([mean])
        return np.asarray(mean[:-1].double().cpu().numpy())

    def _masked(self, value: Tensor, points: Sequence[Point]) -> Tensor:
        own = self.mask.to(value.device, value.dtype)
        for point in points:
            groups = torch.as_tensor(point.groups, device=value.device)
            groups = torch.where(groups < 0, len(own) - 1, groups)
            if self.seen is not None and not point.shared:
                self._note(value.detach(), point.axis, groups)
            shape = [1] * value.ndim
            shape[point.axis] = -1
            value = value * own[groups].reshape(shape)
        return value

    def _note(self, value: Tensor, axis: int, groups: Tensor) -> None:
        """Add what a value shows, before it is masked."""
        assert self.seen is not None
        others = [a for a in range(value.ndim) if a != axis]
        frequency = self.how.statistic == "l0" and bool(value.amin() == 0)
        shown = (value != 0).float() if frequency else value.abs().float()
        each = shown.mean(others) if others else shown
        size = len(self.seen.points)
        positions = torch.bincount(groups, minlength=size)
        total = torch.zeros(size, device=value.device).index_add_(0, groups, each)
        self.seen.importance += total / positions.clamp_min(1)
        self.seen.points += positions > 0

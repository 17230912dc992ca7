"""What a sweep gives: its points, the Pareto front and the knee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from prunec.compiler.plan import Plan
from prunec.runtime.accuracy import Accuracy

TIME = "time"  # the measured latency, where a resource is named


class State(Enum):
    """What became of a point."""

    DONE = "done"
    INFEASIBLE = "infeasible"  # the budget lies below what can be reached
    UNPROVEN = "unproven"  # the gap that was asked for was not proven
    FAILED = "failed"  # the solver gave no answer
    WRONG = "not verified"


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds per run of the dense and the pruned model, side by side; low, high: of `speedup`."""

    dense_s: float
    pruned_s: float
    speedup: float
    low: float
    high: float
    provider: str
    threads: int


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One budget. limits: in base units. plan is None unless the state is DONE.

    message: why there is no plan. dense_objective: of keeping everything, on the scale of the
    plan's objective. verification: as in a report. model: file name of the pruned model, where one
    was written.
    """

    label: str
    limits: Mapping[str, int]
    state: State
    message: str = ""
    plan: Plan | None = field(default=None, repr=False)
    dense_objective: float = 0.0
    verification: Mapping[str, Any] | None = field(default=None, repr=False)
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    model: str | None = None

    @property
    def predicted_loss(self) -> float | None:
        """``1 - objective / objective of the dense model``: the share of scores that is lost."""
        if self.plan is None:
            return None
        return (
            max(0.0, 1 - self.plan.objective / self.dense_objective)
            if self.dense_objective
            else 0.0
        )

    def loss(self, dense: Accuracy | None) -> float | None:
        """What is lost of the first metric where it was measured, else the predicted loss."""
        if self.accuracy is not None and dense is not None:
            whole, left = dense.first[1], self.accuracy.first[1]
            if whole is not None and left is not None:
                return whole - left
        return self.predicted_loss

    def cost(self, against: str) -> float | None:
        """What the pruned model costs: base units of a resource, or seconds for `TIME`."""
        if against == TIME:
            return None if self.latency is None else self.latency.pruned_s
        return None if self.plan is None else self.plan.costs[against][1]


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """Points in the order of the budget.

    model: the name of its file. dense: costs of the dense model, base units. against: the resource,
    or `TIME`, that losses are set against. front: indices of the Pareto points, cheapest first.
    knee: index, or None where the front has none. folder: where the files are.
    """

    model: str
    points: tuple[Point, ...]
    dense: Mapping[str, int]
    dense_accuracy: Accuracy | None
    against: str
    front: tuple[int, ...]
    knee: int | None
    folder: Path | None

    @property
    def measured(self) -> bool:
        """Whether losses are measured accuracy rather than predicted."""
        return self.dense_accuracy is not None and self.dense_accuracy.first[1] is not None

    @property
    def metric(self) -> str | None:
        """What losses are measured by."""
        dense = self.dense_accuracy
        return dense.first[0] if dense is not None and self.measured else None

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the same for the same model, options and points, latency apart."""
        return {
            "schema": 1,
            "model": self.model,
            "against": self.against,
            "loss": "predicted" if (metric := self.metric) is None else metric,
            "dense": {
                "costs": dict(self.dense),
                "accuracy": None if self.dense_accuracy is None else self.dense_accuracy.to_dict(),
            },
            "pareto": [self.points[k].label for k in self.front],
            "knee": None if self.knee is None else self.points[self.knee].label,
            "points": [
                point_dict(point) | {"pareto": k in self.front}
                for k, point in enumerate(self.points)
            ],
        }


def plan_name(label: str) -> str:
    """The file name of a point's plan."""
    return f"{label}.plan.json"


def model_name(label: str) -> str:
    """The file name of a point's pruned model."""
    return f"{label}.pruned.onnx"


def point_dict(point: Point) -> dict[str, Any]:
    """JSON values."""
    plan = point.plan
    out: dict[str, Any] = {
        "budget": point.label,
        "limits": dict(point.limits),
        "state": point.state.value,
        "message": point.message,
        "plan": None if plan is None else plan_name(point.label),
        "model": point.model,
        "predicted_loss": point.predicted_loss,
        "verification": point.verification,
        "accuracy": None if point.accuracy is None else point.accuracy.to_dict(),
        "latency": None if point.latency is None else latency_dict(point.latency),
    }
    if plan is None:
        return out
    return out | {
        "costs": {
            name: {"dense": a, "pruned": b, "ratio": b / a if a else 1.0}
            for name, (a, b) in plan.costs.items()
        },
        "objective": plan.objective,
        "dense_objective": point.dense_objective,
        "bound": plan.bound,
        "gap": plan.gap,
        "solver": plan.components.get("solved_by", ""),
    }


def latency_dict(latency: Latency) -> dict[str, Any]:
    """JSON values."""
    return {
        "dense_s": latency.dense_s,
        "pruned_s": latency.pruned_s,
        "speedup": latency.speedup,
        "low": latency.low,
        "high": latency.high,
        "provider": latency.provider,
        "threads": latency.threads,
    }

"""The folder of a sweep: every point is written when it is done, and found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prunec.compiler.errors import OutputError, PlanError
from prunec.compiler.plan import Plan
from prunec.runtime.accuracy import Accuracy
from prunec.runtime.stage import staged, write_text
from prunec.runtime.sweep.points import (
    Latency,
    Point,
    State,
    latency_dict,
    model_name,
    plan_name,
)

RECORDS = "points"
WEIGHTS = "weights"  # the part that models and what was done to recover them depend on
KEPT_STATES = (State.DONE, State.INFEASIBLE)  # the others may end otherwise next time


@dataclass(frozen=True, slots=True)
class Store:
    """A folder, or None: then nothing is kept.

    keys: of weights, accuracies and latencies, by part.
    """

    folder: Path | None
    keys: Mapping[str, str]

    def read(self, point: Point, key: str) -> Point | None:
        """What is known of a point; None where its plan was decided under another key."""
        record = self._record(point.label)
        if record is None or record.get("key") != key:
            return None
        try:
            state = State(record["state"])
            found = replace(point, state=state, message=record["message"])
            if state is State.DONE:
                found = self._with_plan(found, record)
        except (KeyError, TypeError, ValueError, OSError, PlanError):
            return None  # written by another version, or edited: decide again
        return found

    def write(self, point: Point, key: str) -> None:
        """Write a point, completely or not at all; the record last, as it vouches for the plan."""
        if self.folder is None or point.state not in KEPT_STATES:
            return
        plan_file = self.folder / plan_name(point.label)
        record_file = self._record_path(point.label)
        record: dict[str, Any] = {
            "key": key,
            "state": point.state.value,
            "message": point.message,
            "dense_objective": point.dense_objective,
            "verification": point.verification,
            "accuracy": None if point.accuracy is None else _listed(point.accuracy),
            "latency": None if point.latency is None else latency_dict(point.latency),
            "keys": dict(self.keys),
            "model": point.model,
            "model_sha256": None,
        }
        targets = [record_file]
        if point.plan is not None:
            text = point.plan.to_json()
            record["plan_sha256"] = _sha256(text.encode())
            targets = [plan_file, record_file]
        if point.model is not None:
            record["model_sha256"] = _file_sha256(self.folder / point.model)
        elif self._outdated(point.label):
            self._remove_model(point.label)  # the plan would not say how it was recovered
        with staged(targets) as stage:
            if point.plan is not None:
                write_text(stage[plan_file], text)
            write_text(stage[record_file], json.dumps(record, indent=1, sort_keys=True) + "\n")

    def drop(self, label: str) -> None:
        """Remove what an earlier run left of a point: its model would not be that of a new plan."""
        record = self._record(label)
        if self.folder is None or record is None:
            return
        self._record_path(label).unlink(missing_ok=True)  # first: it vouches for the others
        (self.folder / plan_name(label)).unlink(missing_ok=True)
        if record.get("model") is not None:
            self._remove_model(label)

    def _outdated(self, label: str) -> bool:
        """Whether there is a model of this point that was recovered in another way."""
        record = self._record(label) or {}
        known = record.get("keys") or {}
        return record.get("model") is not None and known.get(WEIGHTS) != self.keys.get(WEIGHTS)

    def _remove_model(self, label: str) -> None:
        assert self.folder is not None
        for name in (model_name(label), f"{model_name(label)}.data"):
            (self.folder / name).unlink(missing_ok=True)

    def read_dense(self, key: str) -> Accuracy | None:
        """The accuracy of the dense model, if it was measured."""
        record = self._record("dense")
        if record is None or record.get("key") != key:
            return None
        return _accuracy(record.get("accuracy"))

    def write_dense(self, accuracy: Accuracy, key: str) -> None:
        """Keep the accuracy of the dense model."""
        if self.folder is None:
            return
        path = self._record_path("dense")
        record = {"key": key, "accuracy": _listed(accuracy)}
        with staged([path]) as stage:
            write_text(stage[path], json.dumps(record, indent=1, sort_keys=True) + "\n")

    def _with_plan(self, point: Point, record: Mapping[str, Any]) -> Point:
        assert self.folder is not None
        text = (self.folder / plan_name(point.label)).read_text(encoding="utf-8")
        if _sha256(text.encode()) != record["plan_sha256"]:
            raise PlanError(f"{plan_name(point.label)}: was edited")
        current = {part for part, key in self.keys.items() if record["keys"].get(part) == key}
        plan, model = Plan.from_json(text), record["model"]
        if WEIGHTS not in current:
            left = {role: spec for role, spec in plan.components.items() if role != "recovery"}
            plan, model = replace(plan, components=left), None
        if model is not None and _file_sha256(self.folder / model) != record["model_sha256"]:
            model = None
        latency = record["latency"] if "latency" in current else None
        return replace(
            point,
            plan=plan,
            dense_objective=float(record["dense_objective"]),
            verification=record["verification"],
            accuracy=_accuracy(record["accuracy"]) if "accuracy" in current else None,
            latency=None if latency is None else Latency(**latency),
            model=model,
        )

    def _record(self, name: str) -> dict[str, Any] | None:
        if self.folder is None:
            return None
        try:
            found = json.loads(self._record_path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _record_path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / RECORDS / f"{name}.json"


def prepare(folder: Path) -> None:
    """Make the folders. Raises OutputError."""
    try:
        (folder / RECORDS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"cannot make the folder {folder}: {error.strerror or error}"
        raise OutputError(text) from error


def _listed(accuracy: Accuracy) -> dict[str, Any]:
    # A list: the first metric decides, and the keys of a record are sorted.
    return {"values": [list(pair) for pair in accuracy.values], "samples": accuracy.samples}


def _accuracy(record: Any) -> Accuracy | None:
    if record is None:
        return None
    return Accuracy(tuple((name, value) for name, value in record["values"]), record["samples"])


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _file_sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None

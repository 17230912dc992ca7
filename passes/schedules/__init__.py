"""Schedules: in which steps channels leave; one file and one row each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prunec.passes.schedules.layerwise import Layerwise
from prunec.passes.schedules.one_shot import OneShot
from prunec.passes.schedules.schedule import Schedule
from prunec.passes.schedules.stepwise import Stepwise

SCHEDULES: Mapping[str, type[Schedule]] = MappingProxyType(
    {"one-shot": OneShot, "layerwise": Layerwise, "stepwise": Stepwise}
)

__all__ = ["SCHEDULES", "Layerwise", "OneShot", "Schedule", "Stepwise"]

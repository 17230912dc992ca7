"""Importance criteria: one file and one row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunec.passes.criteria.activation import Activation
from prunec.passes.criteria.bn_scale import BnScale
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.criteria.random import Random

CRITERIA: Mapping[str, type[Any]] = {
    "magnitude": Magnitude,
    "bn_scale": BnScale,
    "random": Random,
    "activation": Activation,
}

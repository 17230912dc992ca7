"""Importance criteria: one file and one row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunec.passes.criteria.activation import Activation
from prunec.passes.criteria.bn_scale import BnScale
from prunec.passes.criteria.fisher import Fisher
from prunec.passes.criteria.gate import Gate
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.criteria.random import Random
from prunec.passes.criteria.reconstruction import Reconstruction
from prunec.passes.criteria.taylor import Taylor

CRITERIA: Mapping[str, type[Any]] = {
    "magnitude": Magnitude,
    "bn_scale": BnScale,
    "random": Random,
    "activation": Activation,
    "reconstruction": Reconstruction,
    "taylor": Taylor,
    "fisher": Fisher,
    "gate": Gate,
}

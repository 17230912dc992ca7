"""Quantisers: from a range of values to integers; one file and one row each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prunec.compiler.quantisation import Quantiser
from prunec.passes.quantize.quantisers.clustered import Clustered
from prunec.passes.quantize.quantisers.line import Line
from prunec.passes.quantize.quantisers.power_of_two import PowerOfTwo
from prunec.passes.quantize.quantisers.scaler import Scaler

QUANTISERS: Mapping[str, type[Quantiser]] = MappingProxyType(
    {"scaler": Scaler, "line": Line, "power-of-two": PowerOfTwo, "clustered": Clustered}
)

__all__ = ["QUANTISERS", "Clustered", "Line", "PowerOfTwo", "Scaler"]

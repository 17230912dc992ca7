"""Ranges: from a stream of values to the ends of their range; one file and one row each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prunec.compiler.quantisation import Range
from prunec.passes.quantize.ranges.entropy import Entropy
from prunec.passes.quantize.ranges.minmax import MinMax
from prunec.passes.quantize.ranges.mse import Mse
from prunec.passes.quantize.ranges.percentile import Percentile

RANGES: Mapping[str, type[Range]] = MappingProxyType(
    {"minmax": MinMax, "percentile": Percentile, "entropy": Entropy, "mse": Mse}
)

__all__ = ["RANGES", "Entropy", "MinMax", "Mse", "Percentile"]

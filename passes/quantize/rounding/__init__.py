"""Roundings: which integer each weight becomes; a row each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prunec.compiler.quantisation import Rounding
from prunec.passes.quantize.rounding.gptq import Gptq
from prunec.passes.quantize.rounding.nearest import Nearest, Truncate

ROUNDINGS: Mapping[str, type[Rounding]] = MappingProxyType(
    {"nearest": Nearest, "truncate": Truncate, "gptq": Gptq}
)

__all__ = ["ROUNDINGS", "Gptq", "Nearest", "Truncate"]

"""What is maximised: sums of scores, or importance on pairs of channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from prunec.compiler.errors import UsageError
from prunec.compiler.spec import suggest
from prunec.passes.pairwise.importance import NORMS


@dataclass(frozen=True, slots=True)
class Separable:
    """Sum of the scores of the kept channel groups, each by itself (--score, --worth)."""

    name: ClassVar[str] = "separable"


@dataclass(frozen=True, slots=True)
class Pairwise:
    """Sum of |W| over kept (output, input) channel pairs of every weight, normalised per weight.

    normalise: see `importance`.
    """

    name: ClassVar[str] = "pairwise"
    normalise: str = "frobenius"

    def __post_init__(self) -> None:
        if self.normalise not in NORMS:
            raise UsageError(
                f"objective 'pairwise': unknown normalise {self.normalise!r}"
                f"{suggest(self.normalise, NORMS)}"
            )


Objective = Separable | Pairwise
OBJECTIVES: Mapping[str, type[Objective]] = MappingProxyType(
    {"separable": Separable, "pairwise": Pairwise}
)

"""How the scales of quantised tensors come about in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from prunec.compiler.errors import UsageError


@dataclass(frozen=True, slots=True)
class Learned:
    """Scales are trained with the weights; integer zero points stay as calibrated.

    rate: their learning rate in units of the weights', with adamw times the scale itself. Their
    gradients are divided by the root of the elements times the largest integer. No scale falls
    below an eighth of the calibrated one. Source: Esser et al., ICLR 2020, section 2.2.
    """

    name: ClassVar[str] = "learned"
    rate: float = 1.0

    def __post_init__(self) -> None:
        """Raise UsageError for a rate that moves nothing or backwards."""
        if not 0 < self.rate < float("inf"):
            raise UsageError(f"rate of learned scales must be above 0, not {self.rate}")


@dataclass(frozen=True, slots=True)
class Running:
    """Scales follow means of the ranges seen in training: ``r <- (t r + new) / (t + 1)``.

    The range of a weight is that of its elements; the range of an activation that of a batch.
    weight: how many steps the calibrated range counts as. Source: Wang et al., Applied Sciences
    2022, 12, 7829, algorithms 2 and 3 (there nothing is calibrated, weight 0).
    """

    name: ClassVar[str] = "running"
    weight: int = 1

    def __post_init__(self) -> None:
        """Raise UsageError for a weight below 0."""
        if self.weight < 0:
            raise UsageError(f"weight of running scales must not be negative: {self.weight}")


Scales = Learned | Running
SCALES: Mapping[str, type[Scales]] = {"learned": Learned, "running": Running}


@dataclass(frozen=True, slots=True)
class Joint:
    """Weights and activations are quantised from the first step on."""

    name: ClassVar[str] = "joint"
    weights: ClassVar[float] = 0.0
    activations: ClassVar[float] = 0.0


@dataclass(frozen=True, slots=True)
class Published:
    """Weights and activations are quantised after so many epochs each; floats until then.

    Source of the defaults: Wang et al., Applied Sciences 2022, 12, 7829, configurations
    ``*_wa4_t_st`` and ``*_wa8_t_st`` (15 epochs at learning rate 0.004, after pruning).
    """

    name: ClassVar[str] = "published"
    weights: float = 0.5
    activations: float = 0.05

    def __post_init__(self) -> None:
        """Raise UsageError for negative times."""
        if not (self.weights >= 0 and self.activations >= 0):
            raise UsageError("epochs before quantisation must not be negative")


Start = Joint | Published
STARTS: Mapping[str, type[Start]] = {"joint": Joint, "published": Published}

"""How to train: what the command line says, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from prunec.compiler.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SCHEDULES = ("cosine", "linear", "constant")
PRECISIONS: Mapping[str, str] = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
DEVICES = ("auto", "cpu", "cuda")
LABELS = ("auto", "none")
OUTPUT_LOSSES = ("auto", "softmax", "mse")
MiB = 2**20


@dataclass(frozen=True, slots=True)
class AdamW:
    """Adam with decoupled weight decay; also for models whose norms are folded into weights."""

    name: ClassVar[str] = "adamw"
    learning_rate: ClassVar[float] = 1e-3
    weight_decay: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.999


@dataclass(frozen=True, slots=True)
class Sgd:
    """Stochastic gradient descent with momentum; for models that kept their norms."""

    name: ClassVar[str] = "sgd"
    learning_rate: ClassVar[float] = 2e-2
    weight_decay: float = 5e-4
    momentum: float = 0.9
    nesterov: bool = True


OPTIMIZERS: Mapping[str, type[AdamW | Sgd]] = {"adamw": AdamW, "sgd": Sgd}


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to train.

    epochs: passes over the data; steps: optimizer steps in all instead. batch: samples per process
    and pass through the model; accumulate: such batches per optimizer step. learning_rate: the
    highest; None = the optimizer's own default. warmup: share of the steps in which it rises.
    clip: largest norm of all gradients together; 0 = none. ema: decay per step of the average of
    the weights that is evaluated and kept; 0 = none. freeze_norms: running statistics stay, and
    are used instead of the batch's. device: "auto" is cuda where there is one. threads: of torch on
    the CPU, 0 lets it choose. checkpoint: the folder of what a killed run goes on from;
    checkpoint_steps: how often it is written, besides at the end of each epoch.
    """

    epochs: int = 3
    steps: int | None = None
    batch: int = 128
    accumulate: int = 1
    optimizer: AdamW | Sgd = field(default_factory=AdamW)
    learning_rate: float | None = None
    schedule: str = "cosine"
    warmup: float = 0.05
    clip: float = 5.0
    ema: float = 0.0
    freeze_norms: bool = False
    precision: str = "float32"
    device: str = "auto"
    threads: int = 0
    seed: int = 0
    checkpoint: Path | None = None
    checkpoint_steps: int = 500

    def __post_init__(self) -> None:
        """Raise UsageError for values that no run can have."""
        least = {"epochs": 1, "batch": 1, "accumulate": 1, "checkpoint_steps": 1, "threads": 0}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise UsageError(f"{name} must be at least {limit}, not {getattr(self, name)}")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps must be at least 1, not {self.steps}")
        for name, known in (
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("device", DEVICES),
        ):
            if getattr(self, name) not in known:
                shown = ", ".join(known)
                raise UsageError(f"{name} is one of {shown}, not {getattr(self, name)!r}")
        if not (0 <= self.warmup <= 1 and 0 <= self.ema < 1 and self.clip >= 0):
            raise UsageError("warmup lies in [0, 1], ema in [0, 1), clip is not negative")
        if self.learning_rate is not None and not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"the learning rate must be above 0, not {self.learning_rate}")

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        own = self.learning_rate
        return self.optimizer.learning_rate if own is None else own


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a model is fine-tuned towards, and with which samples.

    teacher's outputs count `alpha`, labels 1 - alpha; labels "none": the teacher alone, also where
    the data has labels. temperature: of the distributions that are compared. output_loss: "auto",
    "softmax" or "mse". smoothing: of labels. features: patterns of values to match too, with
    `feature_weight`. augment: ``flip,crop{padding=4}``. validation: share of samples held out to
    choose the best epoch. cache: bytes of the teacher's answers that are kept. memory, buffer,
    workers: see `Reading`.
    """

    labels: str = "auto"
    alpha: float = 0.9
    temperature: float = 2.0
    output_loss: str = "auto"
    smoothing: float = 0.0
    features: tuple[str, ...] = ()
    feature_weight: float = 1.0
    augment: str = ""
    validation: float = 0.05
    cache: int = 512 * MiB
    memory: int = 4096 * MiB
    buffer: int = 2048
    workers: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError for values that no run can have."""
        for name, known in (("labels", LABELS), ("output_loss", OUTPUT_LOSSES)):
            if getattr(self, name) not in known:
                raise UsageError(
                    f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}"
                )
        if not (0 <= self.alpha <= 1 and 0 <= self.smoothing < 1 and 0 <= self.validation < 1):
            raise UsageError("alpha lies in [0, 1], smoothing and validation in [0, 1)")
        if not (self.temperature > 0 and self.feature_weight >= 0):
            raise UsageError("the temperature is above 0, the weight of features not negative")
        if min(self.cache, self.memory, self.workers) < 0 or self.buffer < 1:
            raise UsageError("cache, memory and workers are not negative, buffer is at least 1")

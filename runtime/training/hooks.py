"""Where a caller of the loop takes part in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from prunec.runtime.training.batch import Batch
from prunec.runtime.training.history import Epoch
from prunec.runtime.training.losses import Terms


@dataclass(frozen=True, slots=True, eq=False)
class StepInfo:
    """An optimizer step that was just made.

    step: from 1 to total. terms: of its last batch, detached. optimizer: its `param_groups` have
    `name`, `peak` and `scheduled` besides torch's keys; change `peak` (or `lr` where `scheduled`
    is False) and `weight_decay` for the steps to come.
    """

    step: int
    total: int
    epoch: int
    terms: Terms
    optimizer: torch.optim.Optimizer


OnStep = Callable[[StepInfo], bool | None]  # True ends the run after this step


class Stateful(Protocol):
    """Something of the caller's that a checkpoint holds: numbers, texts, tensors."""

    def state_dict(self) -> dict[str, Any]:
        """What to store."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Extras:
    """What a caller adds to the plain loop.

    augment: changes a batch on the device before the loss sees it; its generator is seeded for
    each batch. on_epoch: called after each epoch, in every process. stateful: by name, stored in
    checkpoints. identity: facts that tell this run from others. progress: what is being done.
    """

    augment: Callable[[Batch, torch.Generator], Batch] | None = None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    stateful: Mapping[str, Stateful] = field(default_factory=dict)
    identity: Sequence[object] = ()
    progress: Callable[[str], None] = lambda text: None

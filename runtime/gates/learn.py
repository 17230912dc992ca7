"""The loop under a loss that closes channels, with the scales of quantised training beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from torch import nn

from prunec.runtime.gates.session import Session
from prunec.runtime.torch_view import TorchView
from prunec.runtime.training.batch import Batch
from prunec.runtime.training.fit import Extras, fit
from prunec.runtime.training.history import History
from prunec.runtime.training.hooks import Stateful, StepInfo
from prunec.runtime.training.losses import Terms
from prunec.runtime.training.optimizers import Group
from prunec.runtime.training.samples import steps_of_epoch


class Closing(Protocol):
    """A loss under gates or masks; it is told of every step, and a checkpoint holds it."""

    def __call__(self, view: TorchView, batch: Batch) -> Terms:
        """Scalars by name, already weighted."""
        ...

    def on_step(self, info: StepInfo) -> bool | None:
        """Close what is to be closed; true ends the run."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What to store."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        ...


class _WithGrids(nn.Module):
    """A module, so that checkpoints, averages and processes hold the scales."""

    def __init__(self, loss: Closing, grids: nn.Module) -> None:
        super().__init__()
        self.loss, self.grids = loss, grids

    def forward(self, view: TorchView, batch: Batch) -> Terms:
        """What the loss says."""
        return self.loss(view, batch)


def learn(
    session: Session, loss: Closing, name: str, groups: Sequence[Group], extras: Extras
) -> History:
    """Train the session's view by a loss. name: of its state in checkpoints. Raises PrunecError."""
    made = session.conversion
    if made is None:
        return fit(
            session.view, session.data, loss, session.settings,
            extra_parameters=groups, on_step=loss.on_step,
            extras=replace(extras, stateful={name: loss}), machine=session.machine,
        )  # fmt: skip
    steps = steps_of_epoch(session.data, session.settings, session.machine.shard)
    tick = made.on_step(session.settings.epochs, steps)

    def on_step(info: StepInfo) -> bool | None:
        tick(info)
        return loss.on_step(info)

    stateful: dict[str, Stateful] = {name: loss, "clock": made.loss.clock}
    return fit(
        session.view, session.data, _WithGrids(loss, made.loss.grids), session.settings,
        extra_parameters=[*groups, *made.loss.groups(session.settings)], on_step=on_step,
        extras=replace(extras, stateful=stateful), machine=session.machine,
    )  # fmt: skip

"""Training under gates that close until a budget is met."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunec.compiler.errors import UsageError
from prunec.passes.criteria.gate import Gate
from prunec.passes.gates.controller import Controller, Mask
from prunec.passes.gates.goal import chosen
from prunec.runtime.gates.noise import Draw, draw, gain
from prunec.runtime.gates.session import Session
from prunec.runtime.torch_view import TorchView
from prunec.runtime.training.batch import Batch
from prunec.runtime.training.fit import StepInfo
from prunec.runtime.training.losses import Terms


class Budgeted:
    """The loss of outputs under drawn gates; gates learn by what the loss gains from them.

    Once the budget is met, what the solver keeps is open, and nothing is drawn any more.
    """

    def __init__(self, session: Session, controller: Controller, how: Gate) -> None:
        self.session, self.controller, self.how = session, controller, how
        self.settled: Mask | None = None
        self.reached: dict[str, float] = {}
        self._gains: list[Tensor] = []

    def __call__(self, view: TorchView, batch: Batch) -> Terms:
        """Terms of the outputs' loss."""
        session = self.session
        found = session.gated(batch.feeds, self._gates(batch), session.wanted, session.edits())
        return self.session.terms(found, batch)

    def on_step(self, info: StepInfo) -> bool:
        """Move the gates; true where nothing is left to learn."""
        if self.settled is None:
            if not self._gains:
                raise UsageError("no output that is trained depends on a channel that can leave")
            evidence = torch.stack(self._gains).mean(0)
            self.session.machine.average([evidence])
            self._gains = []
            self.controller.step(evidence.double().cpu().numpy())
            if self.controller.met:
                self.reached = self.controller.goal.reached(self.controller.counts)
                self.settled = chosen(self.controller.goal, self.controller.openness())
        return self.settled is not None and not self.how.train_weights

    def state_dict(self) -> dict[str, object]:
        """For checkpoints."""
        settled = None if self.settled is None else self.settled.tolist()
        return {
            "controller": self.controller.state_dict(),
            "settled": settled,
            "reached": self.reached,
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from there."""
        assert isinstance(state["controller"], dict) and isinstance(state["reached"], dict)
        self.controller.load_state_dict(state["controller"])
        settled = state["settled"]
        self.settled = None if settled is None else np.array(settled, bool)
        self.reached = state["reached"]

    def _gates(self, batch: Batch) -> Tensor:
        """(rows, groups); their gradient is noted on the way back."""
        device = next(iter(batch.feeds.values())).device
        if self.settled is not None:
            return torch.as_tensor(self.settled, dtype=torch.float32, device=device)[None]
        theta = torch.as_tensor(self.controller.theta, dtype=torch.float32, device=device)
        drawn = draw(theta, self.session.rows(batch), self.how.temperature, hard=self.how.hard)
        still = torch.as_tensor(self.controller.open, device=device)
        gates = (drawn.value * still).requires_grad_()
        hook: Any = gates.register_hook  # torch gives it no types
        hook(lambda gradient: self._note(gradient, drawn, batch.samples))
        return gates

    def _note(self, gradient: Tensor, drawn: Draw, samples: int) -> None:
        # The loss is a mean over the samples, and `fit` divides it by the batches of a step.
        together = samples // len(gradient)
        own = gradient.detach().float() * self.session.settings.accumulate * len(gradient)
        self._gains.append(gain(own, drawn, self.how.evidence, together))

"""Training under gates with the published loss: a fixed weight times their cost, no budget."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from prunec.compiler.problem import FloatArray
from prunec.passes.criteria.gate import Gate
from prunec.passes.gates.controller import Mask, best_of_each, probabilities
from prunec.passes.gates.goal import Goal, channel_weights
from prunec.runtime.gates.noise import draw
from prunec.runtime.gates.session import Session
from prunec.runtime.torch_view import TorchView
from prunec.runtime.training.batch import Batch
from prunec.runtime.training.fit import StepInfo
from prunec.runtime.training.losses import Terms
from prunec.runtime.training.optimizers import Group

PREFIX = "gates of "


class Published:
    """Outputs' loss plus ``weight * sum_e w_e * mean over samples of open gates of e``.

    w_e: the cost of a channel of e over the dense cost, or over `static_total_cost`, times the
    hyperedge's multiplier; at the open counts where `adaptive`. The gates of e learn at the rate
    ``rate * gradient_multiplier / w_e`` with a decay of ``decay * w_e / gradient_multiplier``.
    Those that fall below the threshold close for good, the last ones of a hyperedge never.
    Source: Passov, ICANN 2021, sections 3.1 to 3.3.
    """

    def __init__(
        self,
        session: Session,
        goal: Goal,
        theta: FloatArray,
        how: Gate,
    ) -> None:
        self.session, self.how, self.goal = session, how, goal
        self.graph = goal.graph
        self.cost = self.graph.costs[how.resource]
        self.total = how.static_total_cost or float(self.cost(self.graph.dense()))
        self.theta = [
            nn.Parameter(torch.tensor(theta[e.first : e.first + e.size], dtype=torch.float32))
            for e in self.graph.edges
        ]
        self.edge = self.graph.edge_of_group()
        self.open: Mask = np.ones(len(theta), bool)
        self.closed_at = np.zeros(len(theta), np.int64)
        self.steps = 0

    @property
    def counts(self) -> list[int]:
        """Open gates of each hyperedge."""
        found = np.bincount(self.edge[self.open], minlength=len(self.graph.edges))
        return [int(n) for n in found]

    def weights(self) -> FloatArray:
        """(number of hyperedges,) w_e; a hyperedge without neighbours left weighs next to nothing.

        As published that is 0, and its learning rate infinite.
        """
        counts = self.counts if self.how.adaptive else list(self.graph.dense())
        own = channel_weights(self.cost, counts, self.total) * self.goal.multipliers
        return np.maximum(own, 1e-9)

    def groups(self) -> list[Group]:
        """One for the gates of each hyperedge."""
        decay = self.session.settings.optimizer.weight_decay
        rate, gm = self.session.settings.rate, self.how.gradient_multiplier
        return [
            Group((theta,), rate * gm / w, decay * w / gm, name=PREFIX + edge.name)
            for theta, w, edge in zip(self.theta, self.weights(), self.graph.edges, strict=True)
        ]

    def __call__(self, view: TorchView, batch: Batch) -> Terms:
        """Terms of the outputs' loss, and ``gates``."""
        theta = torch.cat(tuple(self.theta))
        still = torch.as_tensor(self.open, device=theta.device)
        rows = self.session.rows(batch)
        gates = draw(theta, rows, self.how.temperature, hard=self.how.hard).value * still
        session = self.session
        found = session.gated(batch.feeds, gates, session.wanted, session.edits())
        each = torch.as_tensor(self.weights()[self.edge], dtype=torch.float32, device=theta.device)
        cost = self.how.weight * (gates.mean(0) * each).sum()
        return {**self.session.terms(found, batch), "gates": cost}

    def on_step(self, info: StepInfo) -> bool:
        """Close what fell, and set the rates at what is left."""
        self.steps += 1
        theta = self._theta()
        limit = np.log(self.how.threshold / (1 - self.how.threshold))
        fallen = (
            self.open
            & (theta < limit)
            & ~best_of_each(theta, self.open, self.edge, self.goal.floors)
        )
        self.open[fallen] = False
        self.closed_at[fallen] = self.steps
        decay = self.session.settings.optimizer.weight_decay
        rate, gm = self.session.settings.rate, self.how.gradient_multiplier
        weights = dict(
            zip((PREFIX + e.name for e in self.graph.edges), self.weights(), strict=True)
        )
        for row in info.optimizer.param_groups:
            if row["name"] in weights:
                row["peak"] = rate * gm / weights[row["name"]]
                row["weight_decay"] = decay * weights[row["name"]] / gm
        return False

    def openness(self) -> FloatArray:
        """(number_of_groups,) see `probabilities`."""
        return probabilities(
            self._theta(), self.open, self.closed_at, self.steps, self.how.threshold
        )

    def state_dict(self) -> dict[str, object]:
        """For checkpoints, besides the parameters."""
        return {
            "open": self.open.tolist(),
            "closed_at": self.closed_at.tolist(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from there."""
        self.open = np.array(state["open"], bool)
        self.closed_at = np.array(state["closed_at"], np.int64)
        self.steps = int(str(state["steps"]))

    def _theta(self) -> FloatArray:
        whole: Tensor = torch.cat([p.detach() for p in self.theta])
        return np.asarray(whole.double().cpu().numpy())

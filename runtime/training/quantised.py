"""Quantisation-aware training: a loss that sees the view as its integers will compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunec.compiler.quantisation import Grid, Quantiser
from prunec.runtime.torch_view import TorchView
from prunec.runtime.torch_view.run import Edit, Place
from prunec.runtime.training.batch import Batch
from prunec.runtime.training.grids import LearnedGrid, TrainedGrid, trained_grid
from prunec.runtime.training.hooks import StepInfo
from prunec.runtime.training.losses import Objective, Terms
from prunec.runtime.training.norms import Norm, Norms
from prunec.runtime.training.optimizers import Group
from prunec.runtime.training.scales import Learned, Scales, Start
from prunec.runtime.training.settings import AdamW, TrainSettings

NEVER = 2**62  # a step that no run reaches
Feeds = Mapping[str, Tensor]
Codes = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One tensor that is quantised.

    name: of its value; readers: the inputs at which its integers are read, others read floats;
    none: all read them.
    grid: the first, of the weight as `Norms` turns it. quantiser: makes grids of ranges.
    """

    name: str
    readers: tuple[Place, ...]
    grid: Grid
    quantiser: Quantiser
    is_weight: bool = False
    norm: Norm | None = None


class Clock:
    """Which steps quantise: a checkpoint holds it."""

    def __init__(self, start: Start) -> None:
        self.start, self.step = start, 0
        self.weights_from = 0 if start.weights == 0 else NEVER
        self.activations_from = 0 if start.activations == 0 else NEVER

    def now(self) -> tuple[bool, bool]:
        """Whether the next step quantises weights, and activations."""
        return self.step >= self.weights_from, self.step >= self.activations_from

    def tick(self, info: StepInfo, each: float) -> None:
        """Note that a step was made. each: steps of an epoch."""
        self.step = info.step
        self.weights_from = round(self.start.weights * each)
        self.activations_from = round(self.start.activations * each)

    def state_dict(self) -> dict[str, Any]:
        """What to store."""
        return {
            "step": self.step,
            "weights_from": self.weights_from,
            "activations_from": self.activations_from,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        for name, number in state.items():
            setattr(self, name, number)


class QuantisedLoss(nn.Module):
    """An objective on the view with its weights and activations on their grids.

    A module, so that what trains holds the scales: averages, checkpoints and best epochs do then.
    Norms that will be folded are kept in training. A scale per channel passes through them: the
    weight is quantised as it is, and the scale of the folded one is the product; only where a
    norm's factor is negative does the weight change its sign before, as the two ends of a grid
    differ. A scale of a whole tensor is one of the folded weight.
    """

    def __init__(
        self,
        objective: Objective,
        sites: Sequence[Site],
        norms: Norms,
        start: Start,
        scales: Scales,
    ) -> None:
        super().__init__()
        self.objective, self.sites, self.scales = objective, tuple(sites), scales
        self._norms, self.clock = norms, Clock(start)
        self.grids = nn.ModuleList(trained_grid(s.grid, s.quantiser, scales) for s in sites)

    def forward(self, view: TorchView, batch: Batch) -> Terms:
        """The terms of the objective in a training step."""
        found = view(batch.feeds, self.objective.wanted, self.edits())
        return self.objective.terms(found, batch)

    def edits(self) -> dict[Any, Edit]:
        """What a training step does to the view, once; running ranges move by it."""
        return self._edits(self.clock.now(), see=True)

    def run(self, view: TorchView, feeds: Feeds, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Values of the view with all of it quantised, whatever the step."""
        found: dict[str, Tensor] = view(feeds, wanted, self._edits((True, True), see=False))
        return found

    @torch.no_grad()
    def integers(self, view: TorchView, feeds: Feeds) -> dict[str, tuple[Grid, Codes]]:
        """Grid and integers of every weight, norms folded in; feeds: any batch."""
        found: dict[str, tuple[Grid, Codes]] = {}

        def note(x: Tensor, site: Site, grid: TrainedGrid) -> Tensor:
            factor = self._norms.factor(site.norm, site.grid.axis, site.grid.block, x.shape)
            whole = x if factor is None else x * factor
            own = grid.grid()
            codes = own.codes(whole.float().cpu().numpy())
            found[site.name] = self._norms.folded(own, site.norm), codes
            return x

        edits: dict[Any, Edit] = {
            site.readers[0]: partial(note, site=site, grid=grid)
            for site, grid in self._pairs()
            if site.is_weight
        }
        mode = view.training
        view.eval()  # a look at weights moves no running statistics
        try:
            view(feeds, None, edits)
        finally:
            view.train(mode)
        return found

    def ranges(self) -> dict[str, Grid]:
        """The grids of activations."""
        return {site.name: grid.grid() for site, grid in self._pairs() if not site.is_weight}

    def groups(self, settings: TrainSettings) -> tuple[Group, ...]:
        """Learned scales for the optimizer, at the rate of the weights times theirs.

        Steps of AdamW are as long as the rate, whatever the gradient: one of 0.001 would be a fifth
        of a scale of 8 bits. It gets a group per grid, whose rate is in units of the scale.
        """
        found = [grid.scale for grid in self.grids if isinstance(grid, LearnedGrid)]
        if not found or not isinstance(self.scales, Learned):
            return ()
        rate = settings.rate * self.scales.rate
        if not isinstance(settings.optimizer, AdamW):
            return (Group(tuple(found), rate, name="scales"),)
        return tuple(
            Group((scale,), rate * float(scale.detach().mean()), name=f"scales {k}")
            for k, scale in enumerate(found)
        )

    def _edits(self, now: tuple[bool, bool], see: bool) -> dict[Any, Edit]:
        """For one pass. now: whether weights, and activations, are quantised in it."""
        edits: dict[Any, Edit] = {}
        for site, grid in self._pairs():
            act = now[0] if site.is_weight else now[1]
            edit = _once(site, self._edit(site, grid, act, see))
            edits.update(dict.fromkeys(site.readers or (site.name,), edit))
        return edits

    def _pairs(self) -> Iterator[tuple[Site, TrainedGrid]]:
        grids: Any = self.grids
        return zip(self.sites, grids, strict=True)

    def _edit(self, site: Site, grid: TrainedGrid, act: bool, see: bool) -> Edit:
        def edit(x: Tensor) -> Tensor:
            factor = self._norms.factor(site.norm, site.grid.axis, site.grid.block, x.shape)
            whole = x if factor is None else x * factor
            if see:
                grid.see(whole)
            if not act:
                return x
            made: Tensor = grid(whole)
            return made if factor is None else made / factor

        return edit


def _once(site: Site, edit: Edit) -> Edit:
    """Several nodes that read one value read one result."""
    done: list[Tensor] = []

    def first(x: Tensor) -> Tensor:
        if not done:
            done.append(edit(x))
        return done[0]

    return first if len(site.readers) > 1 else edit

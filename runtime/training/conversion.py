"""From a float model to its trained quantised form: places, first grids, loss, written model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from prunec.compiler.errors import UsageError
from prunec.compiler.facts import Facts
from prunec.frontends.functions import inlined
from prunec.frontends.naming import name_everything
from prunec.frontends.newer import raised
from prunec.frontends.shapes import infer_facts
from prunec.passes.quantize.biases import fitting
from prunec.passes.quantize.emit import emit, needed_opset
from prunec.passes.quantize.ends import ends
from prunec.passes.quantize.norms import Folded, fold_norms
from prunec.passes.quantize.places import Places, places
from prunec.passes.quantize.recipe import Recipe
from prunec.passes.quantize.trained import Trained
from prunec.runtime.torch_view import TorchView, torch_view
from prunec.runtime.training.aware import Aware
from prunec.runtime.training.batch import Batch
from prunec.runtime.training.calibration import activation_grids
from prunec.runtime.training.hooks import OnStep, StepInfo
from prunec.runtime.training.losses import Objective
from prunec.runtime.training.quantised import QuantisedLoss, Site
from prunec.runtime.training.sites import norms_of, weight_sites, with_sums

ARRIVED = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What is known of a model before its first step: the folded form and where it is quantised.

    recipe: with the rules for its ends; rounding is to the nearest.
    """

    folded: ir.Model
    norms: Folded
    facts: Facts
    places: Places
    recipe: Recipe


def survey(model: ir.Model, aware: Aware) -> Survey:
    """Where a model is quantised. model: as the view has it. Raises UsageError, ModelError."""
    if any(node.op_type in ARRIVED for node in model.graph):
        raise UsageError("the model arrived quantised; --quantize needs its float form")
    folded = model.clone()
    norms = fold_norms(folded)
    facts = infer_facts(folded)
    first = places(folded, facts, aware.recipe)
    named = {str(node.name): node for node in folded.graph}
    layers = [named[place.node] for place in first.nodes if place.weight]
    if not layers:
        raise UsageError("--quantize: the model has no layer that the recipe quantises")
    outer = frozenset[str]().union(*ends(folded.graph, layers)[:2])
    recipe = replace(aware.with_ends(outer), rounding="nearest")
    found = places(folded, facts, recipe)
    if aware.sums is not None:
        found = with_sums(folded, found, aware.sums)
    return Survey(folded, norms, facts, found, recipe)


class Conversion:
    """One run's: the loss that trains it, and the model that it ends as."""

    def __init__(
        self,
        view: TorchView,
        model: ir.Model,
        objective: Objective,
        aware: Aware,
        batches: Iterable[Batch],
    ) -> None:
        """model: the source of the view, named as it is. batches: to calibrate with."""
        self.aware, self.view = aware, view
        self._written: tuple[tuple[int, ...], TorchView] | None = None
        self.survey = survey(model, aware)
        recipe = aware.recipe
        weights, activations, ranges, _ = recipe.parts()
        found = self.survey.places
        norms, factors = norms_of(model, self.survey.norms.norms, found, view)
        made = weight_sites(model, found, norms, factors, weights)
        grids = activation_grids(view, batches, found, activations, ranges)
        made += [Site(name, (), grid, activations) for name, grid in grids.items()]
        self.loss = QuantisedLoss(objective, made, factors, aware.start, aware.scales)

    def judged(self, feeds: Mapping[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
        """Values of the model that would be written now, in float32: that is what is evaluated."""
        state = [*self.view.state_dict(keep_vars=True).values(), *self.loss.state_dict().values()]
        now = tuple(tensor._version for tensor in state)
        if self._written is None or self._written[0] != now:
            model, _ = self.result(feeds)
            self._written = now, torch_view(model).eval()
        device = next(iter(feeds.values())).device
        written = self._written[1].to(device)
        with torch.autocast(device.type, enabled=False):
            if not set(wanted) <= {*written.computed, *written.inputs}:
                # Features in front of a norm that is folded: they are nowhere else.
                return self.loss.run(self.view, feeds, wanted)
            found: dict[str, Tensor] = written(feeds, wanted)
            return found

    def on_step(self, epochs: int, steps: int | None = None) -> OnStep:
        """Tells the loss which step it is at. steps: of an epoch, where that is known."""

        def tick(info: StepInfo) -> None:
            self.loss.clock.tick(info, steps or info.total / epochs)

        return tick

    def trained(self, feeds: Mapping[str, Tensor]) -> Trained:
        """The present grids, norms folded in. feeds: any."""
        weights = {name: grid for name, (grid, _) in self.loss.integers(self.view, feeds).items()}
        return Trained(self.loss.ranges(), weights)

    def result(self, feeds: Mapping[str, Tensor]) -> tuple[ir.Model, tuple[str, ...]]:
        """The quantised model with the present weights and scales, and notes. feeds: any."""
        model = self.view.to_model()
        name_everything(model)
        fold_norms(model)
        activations, recipe = self.loss.ranges(), self.aware.recipe
        weights = self.loss.integers(self.view, feeds)
        for name, (grid, codes) in weights.items():
            wide = fitting(model, self.survey.places, name, grid, activations)
            if wide is not grid:
                weights[name] = wide, wide.codes(grid.values(codes))
        made = emit(
            model, self.survey.facts, self.survey.places, activations, weights,
            kernels=recipe.kernels, recipe=str(recipe),
        )  # fmt: skip
        note = f"{recipe}: {len(weights)} weights and {len(activations)} activations are integers"
        return made.model, (note, *(f"{b} stays float: {why}" for b, why in made.floats.items()))


def in_opset(model: ir.Model, aware: Aware) -> ir.Model:
    """The model with functions expanded, in an operator set that has the types of the integers.

    Raises ModelError, UsageError.
    """
    model = inlined(model)
    found = survey(model, aware)
    half = any(found.facts.dtypes.get(name) == np.float16 for name in found.places.weights)
    return raised(model, needed_opset(found.places, half, kernels=aware.recipe.kernels))

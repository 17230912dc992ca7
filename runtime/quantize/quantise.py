"""Quantise: a recipe and calibration data make integers of a float model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.compiler.facts import Facts
from prunec.compiler.quantisation import Grid
from prunec.passes.insert import values_by_name
from prunec.passes.quantize.biases import fitting
from prunec.passes.quantize.emit import Codes, Emitted, emit
from prunec.passes.quantize.places import NO_EDGES, Edges, Places
from prunec.passes.quantize.recipe import Recipe
from prunec.passes.quantize.trained import Trained
from prunec.passes.quantize.weights import weight_grid
from prunec.passes.recovery.storage import store, tensor_of
from prunec.runtime.data import DataSpec, load_data
from prunec.runtime.inputs import model_inputs
from prunec.runtime.quantize.calibrate import calibrate
from prunec.runtime.quantize.prepare import Prepared, prepared
from prunec.runtime.quantize.reconstruct import Fitting, LayerError, reconstruct
from prunec.runtime.recovery.recover import Running

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Quantised:
    """model: with QuantizeLinear and DequantizeLinear. float_model: what it was made of, norms
    folded, and its facts. recipe: with the rounding that the data allow. activations, weights:
    the grids, and the integers of weights. floats: node, or bias, -> why it stays float.
    samples: that activations were calibrated with. errors: of layers whose weights were rounded
    by data.
    """

    model: ir.Model
    float_model: ir.Model
    facts: Facts
    recipe: Recipe
    places: Places
    activations: Mapping[str, Grid]
    weights: Mapping[str, tuple[Grid, Codes]]
    floats: Mapping[str, str]
    norms: tuple[str, ...] = ()
    samples: int = 0
    errors: tuple[LayerError, ...] = ()

    @property
    def bits(self) -> Mapping[str, int]:
        """Weight -> bits, for `Plan.bits`."""
        return {name: grid.bits for name, (grid, _) in self.weights.items()}


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what a model is quantised: sizes of symbolic inputs, data, and where models run.

    edges: value -> names of the hyperedges through it, for the patterns of a recipe. trained: grids
    that are there already: nothing is calibrated.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    data: DataSpec | None = None
    running: Running = field(default_factory=Running)
    edges: Edges = field(default_factory=lambda: NO_EDGES)
    trained: Trained | None = None


def quantise(
    model: ir.Model,
    recipe: Recipe,
    conditions: Conditions | None = None,
    progress: Progress = lambda _: None,
) -> Quantised:
    """A copy of `model`, quantised by a recipe.

    Raises UsageError where the recipe needs data and there is none, or nothing can be quantised;
    DataError; ModelError.
    """
    conditions = conditions or Conditions()
    if recipe.needs_data and conditions.data is None and conditions.trained is None:
        raise UsageError(f"recipe {recipe} needs calibration data; give it with --data")
    if conditions.trained is not None:
        recipe = recipe.as_trained()
    elif conditions.data is not None:
        recipe = recipe.with_data()
    ready = prepared(model, recipe, conditions.shapes, conditions.edges)
    if not ready.places.nodes:
        raise UsageError(f"nothing can be quantised{_why(ready.places.floats)}")
    if conditions.trained is not None:
        ready = replace(ready, places=conditions.trained.settled(ready.places))
    activations, samples = _activations(ready, recipe, conditions, progress)
    progress("rounding weights")
    model, weights, errors = _weights(ready, recipe, conditions, activations, progress)
    emitted = emitted_of(replace(ready, model=model), recipe, activations, weights)
    floats = {**ready.places.floats, **emitted.floats}
    return Quantised(
        model=emitted.model,
        float_model=ready.model,
        facts=ready.facts,
        recipe=recipe,
        places=ready.places,
        activations=activations,
        weights=weights,
        floats=floats,
        norms=ready.norms,
        samples=samples,
        errors=errors,
    )


def emitted_of(
    ready: Prepared,
    recipe: Recipe,
    activations: Mapping[str, Grid],
    weights: Mapping[str, tuple[Grid, Codes]],
) -> Emitted:
    """The quantised model of grids and integers, however they were found."""
    return emit(
        ready.model,
        ready.facts,
        ready.places,
        activations,
        weights,
        kernels=recipe.kernels,
        recipe=str(recipe),
    )


def _why(floats: Mapping[str, str]) -> str:
    """The commonest reason, or nothing."""
    if not floats:
        return ": no layer with a stored weight"
    reasons = list(floats.values())
    common = max(sorted(set(reasons)), key=reasons.count)
    name = next(node for node, why in floats.items() if why == common)
    return f": {common} ({name}, {reasons.count(common)} of {len(reasons)} nodes)"


def _activations(
    ready: Prepared, recipe: Recipe, conditions: Conditions, progress: Progress
) -> tuple[dict[str, Grid], int]:
    """Grids of activations, and how many samples they come from."""
    wanted = ready.places.activations
    if not wanted:
        return {}, 0
    if conditions.trained is not None:
        return {name: conditions.trained.activations[name] for name in wanted}, 0
    assert conditions.data is not None
    progress("calibrating")
    _, quantiser, ranges, _ = recipe.parts()
    found = calibrate(
        ready.model,
        dict.fromkeys(wanted),
        load_data(conditions.data, model_inputs(ready.model)),
        ranges,
        provider=conditions.running.provider,
        threads=conditions.running.threads,
    )
    grids = {name: found.grid(name, quantiser, bits) for name, bits in wanted.items()}
    return grids, found.samples


def _weights(
    ready: Prepared,
    recipe: Recipe,
    conditions: Conditions,
    activations: Mapping[str, Grid],
    progress: Progress,
) -> tuple[ir.Model, dict[str, tuple[Grid, Codes]], tuple[LayerError, ...]]:
    """Grids and integers of weights; the float model with the biases that go with them."""
    quantiser, _, _, rounding = recipe.parts()
    values = values_by_name(ready.model.graph)
    grids = {}
    for name, place in ready.places.weights.items():
        tensor = tensor_of(values[name])
        assert tensor is not None, name
        axis = place.input if place.block else place.axis
        if conditions.trained is not None:
            grid = conditions.trained.weights[name]
        else:
            grid = weight_grid(tensor.numpy(), quantiser, place.bits, axis, block=place.block)
        grids[name] = fitting(ready.model, ready.places, name, grid, activations)
    full = {
        name: activations[ready.places.same.get(name, name)]
        for name in (*ready.places.activations, *ready.places.same)
    }
    found = reconstruct(
        ready.model,
        ready.facts,
        full,
        grids,
        Fitting(rounding, recipe.corrects),
        conditions.data,
        conditions.running,
        progress,
    )
    model = ready.model
    if found.biases:
        model = model.clone()
        held = values_by_name(model.graph)
        for name, array in found.biases.items():
            store(held[name], array)
    codes = {name: (grid, found.codes[name]) for name, grid in grids.items()}
    return model, codes, found.errors

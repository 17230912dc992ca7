"""What each stored weight costs at each number of bits, measured on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prunec.compiler.gram import Gram
from prunec.compiler.quantisation import FloatArray
from prunec.compiler.recovery import Array
from prunec.passes.apply import remove_dead
from prunec.passes.insert import values_by_name
from prunec.passes.quantize.copies import without_copies
from prunec.passes.quantize.errors import Sensitivity, quantised, relative_error
from prunec.passes.quantize.norms import fold_norms
from prunec.passes.quantize.own_biases import own_biases
from prunec.passes.quantize.places import WeightPlace
from prunec.passes.quantize.recipe import Recipe
from prunec.passes.recovery.storage import tensor_of
from prunec.runtime.changed import Changed, Place, place_of
from prunec.runtime.data import DataSpec, load_data
from prunec.runtime.inputs import Feeds, model_inputs
from prunec.runtime.output_loss import OutputLoss
from prunec.runtime.recovery.grams import collect_grams
from prunec.runtime.recovery.recover import Running
from prunec.runtime.removals import spread
from prunec.runtime.subject import Subject

PROBES = 256  # samples of each measurement
MOST_MACS = 5_000_000_000_000  # of all measurements; a few minutes of one core
LEAST_SAMPLES = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """weights: to be measured, by name, each with the numbers of bits, ascending. outputs: whether
    the loss of the model's outputs is measured too, besides the error of the layer.
    """

    weights: Mapping[str, tuple[WeightPlace, tuple[int, ...]]]
    outputs: bool = True
    probes: int = PROBES


def with_folded_norms(subject: Subject) -> Subject:
    """The subject as a model is when it is quantised: norms in layers, each with its own bias."""
    model = subject.model.clone()
    without_copies(model)
    fold_norms(model)
    own_biases(model)
    remove_dead(model.graph)
    return replace(subject, model=model)


def sensitivities(
    subject: Subject,
    asked: Asked,
    recipe: Recipe,
    data: DataSpec,
    running: Running | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Sensitivity, ...]:
    """Of each weight alone, all others float; in the order of `asked`.

    subject: with folded norms. A weight without a Gram matrix (too many columns, or inside of a
    body) has none and is left out. Samples are fewer than asked for, but at least 16, where the
    runs would take more than 5e12 multiply-accumulates. Raises DataError.
    """
    running = running or Running()
    grams: dict[str, list[Gram]] = {}
    for gram in collect_grams(subject, data, running, progress=progress).grams.values():
        grams.setdefault(gram.weight, []).append(gram)
    runs = sum(len(bits) + 2 for _, bits in asked.weights.values())
    samples = _samples(subject, runs, asked.probes) if asked.outputs else 0
    batches = list(spread(load_data(data, model_inputs(subject.model)), samples or 1))
    values = values_by_name(subject.model.graph)
    quantiser, _, _, rounding = recipe.parts()
    found = []
    for number, (name, (place, bits)) in enumerate(asked.weights.items()):
        own = grams.get(name, [])
        spots = [place_of(subject.model, subject.facts, gram) for gram in own]
        tensor = tensor_of(values[name])
        if tensor is None or not own or None in spots:
            continue
        progress(f"quantising {number + 1} of {len(asked.weights)} alone: {name}")
        weight, known = tensor.numpy(), [spot for spot in spots if spot is not None]
        given = own if rounding.needs_data else ()
        arrays = [
            quantised(weight, place, b, known[0].form, quantiser, rounding, given) for b in bits
        ]
        error = [_error(known, array) for array in arrays]
        loss = _losses(subject, known, [weight, *arrays], batches, running) if samples else ()
        found.append(Sensitivity(name, bits, np.array(error), np.array(loss)))
    return tuple(found)


def _samples(subject: Subject, runs: int, probes: int) -> int:
    first = subject.facts.shapes.get(str(subject.model.graph.inputs[0].name), (1,))
    graph = subject.graph
    each = graph.costs["flops"](graph.dense()) / max(first[0] if first else 1, 1)
    most = int(MOST_MACS / max(each * runs, 1))
    return max(min(probes, most), min(probes, LEAST_SAMPLES))


def _error(places: Sequence[Place], array: Array) -> float:
    return sum(relative_error(p.gram, p.form.matrix(array)) for p in places)


def _losses(
    subject: Subject,
    places: Sequence[Place],
    arrays: Sequence[Array],
    batches: Iterable[Feeds],
    running: Running,
) -> FloatArray:
    """(len(arrays) - 1,) losses against the first; 0 where no output can change."""
    judge = OutputLoss(subject.model)
    changed = Changed(
        subject.model, places, judge.outputs, provider=running.provider, threads=running.threads
    )
    losses, total = np.zeros(len(arrays) - 1), 0
    if not changed.outputs:
        return losses
    fed = [_fed(places, array) for array in arrays]
    for feeds in batches:
        count = len(next(iter(feeds.values())))
        changed.start(feeds)
        clean = changed.run(fed[0])
        losses += [count * judge(clean, changed.run(own)) for own in fed[1:]]
        total += count
    # An overflow loses more than any number says; a sum of such would be no number.
    return np.minimum(losses / total, float(np.finfo(np.float32).max))


def _fed(places: Sequence[Place], array: Array) -> Feeds:
    fed: Feeds = {}
    for place in places:
        matrix = place.form.matrix(array)
        fed |= place.feeds(matrix, np.zeros((len(matrix), matrix.shape[2])))
    return fed

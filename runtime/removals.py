"""How channel groups would leave, and what the model loses by it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from prunec.compiler.criterion import Criterion
from prunec.compiler.gram import Gram
from prunec.compiler.problem import FloatArray
from prunec.compiler.removal import Indices, Removal
from prunec.compiler.stats import Stats
from prunec.passes.criteria.readers import Reading, parts_of, readings_of
from prunec.passes.criteria.surgeon import eliminate
from prunec.runtime.changed import Changed, Place, place_of
from prunec.runtime.data import Dataset, load_data
from prunec.runtime.inputs import Feeds, model_inputs
from prunec.runtime.output_loss import OutputLoss
from prunec.runtime.recovery.grams import collect_grams
from prunec.runtime.recovery.recover import Running
from prunec.runtime.subject import Subject

if TYPE_CHECKING:
    from prunec.runtime.compile import Progress, Settings

MOST_MACS = 5_000_000_000_000  # of all measurements; a few minutes of one core
LEAST_SAMPLES = 16


class Eliminating(Protocol):
    """The options of a criterion that needs removals; see `Reconstruction`."""

    points: int
    probes: int
    ridge: float
    rows: int


def collect(
    subject: Subject, criterion: Criterion, settings: Settings, progress: Progress
) -> Stats:
    """Eliminate the groups of each hyperedge, and measure at some kept counts.

    Samples are fewer than the criterion says, but at least 16, where the measurements would take
    more than 5e12 multiply-accumulates. Raises DataError, ModelError.
    """
    options = cast(Eliminating, criterion)
    assert settings.data is not None
    running = Running(settings.provider, settings.threads)
    grams = collect_grams(subject, settings.data, running, progress=progress)
    return eliminated(subject, grams, options, settings, progress)


def eliminated(
    subject: Subject, grams: Stats, options: Eliminating, settings: Settings, progress: Progress
) -> Stats:
    """The same with the Gram matrices at hand."""
    graph = subject.graph
    parts = list(parts_of(graph, grams.grams))
    samples = _samples(subject, len(graph.edges), options)
    assert settings.data is not None
    data = load_data(settings.data, model_inputs(subject.model))
    batches = list(spread(data, samples)) if options.points else []
    removals: list[Removal] = []
    for groups, readings in readings_of(graph, parts, options.ridge):
        done = sum(map(len, (removal.order for removal in removals)))
        progress(f"re-solving without {done} to {done + len(groups)} of {graph.number_of_groups}")
        readers = [reading.reader(groups) for reading in readings]
        places, added = eliminate(len(groups), readers, options.rows)
        order, error = groups[places], np.concatenate([[0.0], np.cumsum(added)])
        gone = _levels(len(groups), options.points)
        loss = np.zeros(0)
        if len(gone):
            loss = _losses(subject, readings, [order[:n] for n in gone], batches, settings)
        removals.append(Removal(order, error, gone[: len(loss)], loss))
    seen = sum(len(next(iter(feeds.values()))) for feeds in batches)
    record = {"probed_samples": seen}
    return replace(grams, grams={}, removals=tuple(removals), record=record)


def _samples(subject: Subject, hyperedges: int, options: Eliminating) -> int:
    """How many samples each measurement takes."""
    graph, facts = subject.graph, subject.facts
    first = facts.shapes.get(str(subject.model.graph.inputs[0].name), (1,))
    each = graph.costs["flops"](graph.dense()) / max(first[0] if first else 1, 1)
    runs = hyperedges * (options.points + 2)
    most = int(MOST_MACS / max(each * runs, 1))
    return max(min(options.probes, most), min(options.probes, LEAST_SAMPLES))


def _levels(size: int, points: int) -> Indices:
    """Numbers of removed groups, ascending: at even distances, and all of them."""
    if not points:
        return np.zeros(0, np.int64)
    kept = np.round(size * np.arange(points, 0, -1) / (points + 1)).astype(np.int64)
    return np.unique(np.append(size - kept[(kept > 0) & (kept < size)], size))


def spread(data: Dataset, samples: int) -> Iterator[Feeds]:
    """Batches at even distances that hold about so many samples: data may be sorted by class."""
    sizes = [len(next(iter(feeds.values()))) for feeds in data]
    wanted = max(1, min(len(sizes), -(-samples // max(sizes))))
    chosen = set(np.linspace(0, len(sizes), wanted, endpoint=False).astype(int).tolist())
    room = -(-samples // wanted)
    for number, feeds in enumerate(data):
        if number in chosen:
            yield feeds if data.whole else {name: array[:room] for name, array in feeds.items()}


def _losses(
    subject: Subject,
    readings: Sequence[Reading],
    gone: Sequence[Indices],
    batches: Sequence[Feeds],
    settings: Settings,
) -> FloatArray:
    """(len(gone),) losses with the readers solved again; empty where none of them can change."""
    places = _places(subject, readings)
    judge = OutputLoss(subject.model)
    changed = Changed(
        subject.model, places, judge.outputs, provider=settings.provider, threads=settings.threads
    )
    if not changed.outputs:
        return np.zeros(0)
    weights = [_weights(places, readings, positions) for positions in gone]
    dense = _weights(places, readings, np.zeros(0, np.int64))
    losses, total = np.zeros(len(gone)), 0
    for feeds in batches:
        count = len(next(iter(feeds.values())))
        changed.start(feeds)
        clean = changed.run(dense)
        losses += [count * judge(clean, changed.run(own)) for own in weights]
        total += count
    # An overflow loses more than any number says; a sum of such would be no number.
    return np.minimum(losses / total, float(np.finfo(np.float32).max))


def _places(subject: Subject, readings: Sequence[Reading]) -> list[Place]:
    grams: dict[str, Gram] = {r.part.gram.node: r.part.gram for r in readings}
    found = (place_of(subject.model, subject.facts, gram) for gram in grams.values())
    return [place for place in found if place is not None]


def _weights(places: Sequence[Place], readings: Sequence[Reading], gone: Indices) -> Feeds:
    """What is fed so that all readers are solved again without these positions."""
    blocks: dict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        blocks[reading.part.gram.node].append(reading)
    fed: Feeds = {}
    for place in places:
        matrix = place.gram.matrix.copy()
        shift = np.zeros((len(matrix), matrix.shape[2]))
        for reading in blocks[place.gram.node] if len(gone) else ():
            matrix[reading.part.block], shift[reading.part.block] = reading.without(gone)
        fed |= place.feeds(matrix, shift)
    return fed

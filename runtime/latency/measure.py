"""The measuring of a model's cells: slim models in small interleaved groups, resumable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prunec.compiler.problem import IntArray
from prunec.runtime.latency.design import Counts, design
from prunec.runtime.latency.kernels import Where, kernel_times
from prunec.runtime.latency.profile import Measured
from prunec.runtime.latency.segments import Segment, segments
from prunec.runtime.subject import Subject

GROUP = 4  # models in memory at once
# Distinct sizes of a cell after which it is known, if they reach far enough; half of those that
# there are if these are fewer.
ENOUGH = 40


@dataclass(frozen=True, slots=True)
class Effort:
    """models: how many slim ones to measure. rounds: of 2 counted runs of each. passes: how often
    to go over all of them: a disturbance may outlast the rounds, but not that.
    """

    models: int = 48
    rounds: int = 5
    passes: int = 2
    seed: int = 0


def measure(
    subject: Subject,
    levels: Sequence[IntArray],
    measured: Measured,
    where: Where,
    effort: Effort,
    keep: Callable[[int, int], None] = lambda done, of: None,
) -> int:
    """Add what is missing of a model's cells; returns how many slim models were run.

    levels: allowed kept counts per hyperedge. keep: called after each group with what is done and
    what there is to do; a run that ends early goes on from the last such call. Cells that another
    model has filled need no measuring.
    """
    parts = segments(subject)
    name = _name(subject, levels, effort)
    drawn = design(levels, effort.models, effort.seed) * effort.passes
    probe = [int(own[0]) for own in levels]
    ran, first = 0, measured.models.get(name, 0)
    if not first and all(_known(part, measured, levels) for part in parts):
        return 0
    for start in range(first, len(drawn), GROUP):
        group = drawn[start : start + GROUP]
        times = kernel_times(subject, group, where, effort.rounds, probe)
        for counts, own in zip(group, times, strict=True):
            record(parts, counts, own, measured)
        ran += len(group)
        measured.models[name] = start + len(group)
        keep(start + len(group), len(drawn))
    return ran


def record(
    parts: Sequence[Segment], counts: Counts, times: dict[int, float], measured: Measured
) -> None:
    """Add the times of one slim model to the cells; what was left out of it is not there."""
    for part in parts:
        sizes = part.sizes(counts)
        taken = sum(times.get(node, 0.0) for node in part.nodes)
        if all(sizes):
            measured.add(part.key, (*sizes, round(taken)))


def _known(part: Segment, measured: Measured, levels: Sequence[IntArray]) -> bool:
    samples = measured.samples(part.key)
    if samples is None:
        return False
    if not part.factors:
        return True
    dense = part.sizes([int(own[-1]) for own in levels])
    reached = (samples.sizes.max(axis=0) >= np.array(dense)).all()
    there = 1
    for factor in part.factors:
        there *= int(np.prod([len(levels[e]) for e, _ in factor.terms]))
    return bool(reached) and len(samples.sizes) >= min(ENOUGH, there / 2)


def model_name(subject: Subject) -> str:
    """Identity of a model and its input shapes."""
    inputs = {v.name: subject.facts.shapes.get(v.name or "") for v in subject.model.graph.inputs}
    return hashlib.sha256(repr((subject.digest, inputs)).encode()).hexdigest()[:16]


def _name(subject: Subject, levels: Sequence[IntArray], effort: Effort) -> str:
    """Identity of a design: the model, the levels and the effort."""
    text = repr((model_name(subject), [own.tolist() for own in levels], effort))
    return hashlib.sha256(text.encode()).hexdigest()[:16]

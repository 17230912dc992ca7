"""The latency of a model as one of its costs, so that it can be budgeted like any other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from prunec.compiler.cost import Tabled
from prunec.compiler.errors import ProfileError, UsageError
from prunec.compiler.extensions import Source as RulesSource
from prunec.compiler.latency import MODELS
from prunec.compiler.problem import IntArray
from prunec.compiler.spec import suggest
from prunec.passes.options import Options
from prunec.passes.pose import allowed_levels
from prunec.runtime.inputs import bind_inputs, model_inputs
from prunec.runtime.latency.half_edge import half_edge_cost, multipliers, time_halves
from prunec.runtime.latency.kernels import Where
from prunec.runtime.latency.measure import Effort, measure, model_name
from prunec.runtime.latency.predict import predictor
from prunec.runtime.latency.profile import (
    Measured,
    Profile,
    Setup,
    choose,
    read_profile,
    setup_of,
)
from prunec.runtime.subject import Subject, open_model

HALF_EDGE = "half-edge"
LATENCY_MODELS = (*MODELS, HALF_EDGE)
LATENCY = "latency"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What latency is asked for. profile: a file, one in memory, or None: measured now.

    model: one of LATENCY_MODELS. batch: for inputs whose first dimension is a symbol. rules: as
    for `open_model`.
    """

    profile: str | Path | Profile | None = None
    model: str = "lut"
    where: Where = field(default_factory=Where)
    batch: int | None = None
    rules: tuple[RulesSource, ...] = ()


def names_latency(budget: str | Iterable[str]) -> bool:
    """Whether a budget limits latency."""
    items = (
        budget.split(",") if isinstance(budget, str) else [i for t in budget for i in t.split(",")]
    )
    return any(item.partition("=")[0].strip() == LATENCY for item in items)


def with_latency(
    subject: Subject,
    options: Options,
    wanted: Wanted,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Subject, Mapping[str, Any]]:
    """The subject with the cost "latency" in nanoseconds, and what a plan should record of it.

    Raises ProfileError where the profile does not know the model, UsageError.
    """
    if wanted.model not in LATENCY_MODELS:
        near = suggest(wanted.model, LATENCY_MODELS)
        raise UsageError(f"unknown latency model {wanted.model!r}{near}")
    if subject.graph.joins:
        raise UsageError(
            "latency budgets don't know what a decoupled addition costs; leave one out"
        )
    bound = at_batch(subject, wanted.batch, wanted.rules)
    levels = positive_levels(bound, options)
    setup, measured = _measured(bound, levels, wanted, progress)
    cost = _cost(bound, levels, measured, wanted.model)
    graph = replace(subject.graph, costs={**subject.graph.costs, LATENCY: cost})
    record = {
        **asdict(setup),
        "model": wanted.model,
        "batch": wanted.batch,
        "profile": _source(wanted.profile),
    }
    return replace(subject, graph=graph), record


def positive_levels(subject: Subject, options: Options) -> tuple[IntArray, ...]:
    """The kept counts above 0 that options allow."""
    levels, _ = allowed_levels(subject.graph, options)
    return tuple(own[own > 0] for own in levels)


def at_batch(subject: Subject, batch: int | None, rules: tuple[RulesSource, ...] = ()) -> Subject:
    """The same model with symbolic first dimensions at `batch`, for timing. Raises UsageError."""
    if subject.graph.joins:
        raise UsageError("nothing is known of what decoupled additions take: leave --decouple out")
    inputs = model_inputs(subject.model)
    if batch is None or not any(spec.shape and isinstance(spec.shape[0], str) for spec in inputs):
        return subject
    shapes = bind_inputs(inputs, batch, subject.shapes)
    bound = open_model(subject.source, shapes, freedom=subject.graph.freedom, rules=rules)
    if [(e.name, e.size) for e in bound.graph.edges] != [
        (e.name, e.size) for e in subject.graph.edges
    ]:
        raise UsageError(f"--batch {batch}: other channels are coupled at this size; use --shape")
    return bound


def _measured(
    subject: Subject,
    levels: Sequence[IntArray],
    wanted: Wanted,
    progress: Callable[[str], None],
) -> tuple[Setup, Measured]:
    """From the profile, or from this machine now."""
    setup = setup_of(subject, wanted.where.provider, wanted.where.threads)
    if isinstance(wanted.profile, dict):
        return choose(wanted.profile, setup, "the profile")
    if wanted.profile is not None:
        return choose(read_profile(Path(wanted.profile)), setup, wanted.profile)
    measured = Measured()
    log.info("no --profile: measuring latency now; `prunec profile MODEL -o FILE` keeps it")

    def tell(done: int, of: int) -> None:
        progress(f"measuring latency: {done} of {of} (prunec profile keeps it for other runs)")

    if wanted.model == HALF_EDGE:
        measured.halves[model_name(subject)] = time_halves(subject, wanted.where, progress=tell)
    else:
        measure(subject, levels, measured, wanted.where, Effort(), tell)
    return setup, measured


def _cost(subject: Subject, levels: Sequence[IntArray], measured: Measured, model: str) -> Tabled:
    if model != HALF_EDGE:
        return predictor(subject, measured, model).cost(levels)
    halves = measured.halves.get(model_name(subject))
    if halves is None:
        raise ProfileError(
            "the profile has no times of this model's hyperedges at half their channels; add them "
            "with prunec profile MODEL --half-edge -o PROFILE"
        )
    return half_edge_cost(subject.graph, multipliers(subject.graph, halves), halves.dense)


def _source(profile: str | Path | Profile | None) -> str:
    if profile is None:
        return "measured for this plan"
    return "in memory" if isinstance(profile, dict) else Path(profile).name

"""What `prunec profile` does: measure what is missing, keep it, and hold predictions against it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prunec.compiler.errors import UsageError
from prunec.compiler.extensions import Source as RulesSource
from prunec.compiler.latency import MODELS, Quality
from prunec.compiler.problem import IntArray
from prunec.passes.options import Options
from prunec.runtime.latency.attach import HALF_EDGE, at_batch, positive_levels
from prunec.runtime.latency.half_edge import multipliers, time_halves
from prunec.runtime.latency.kernels import Where
from prunec.runtime.latency.measure import Effort, measure, model_name
from prunec.runtime.latency.predict import Predictor, predictor
from prunec.runtime.latency.profile import (
    Measured,
    Profile,
    Setup,
    choose,
    merge,
    read_profile,
    setup_of,
    write_profile,
)
from prunec.runtime.latency.validate import Validation, validate
from prunec.runtime.session import make_session
from prunec.runtime.subject import Subject


@dataclass(frozen=True, slots=True)
class Task:
    """options: which counts are allowed. halves: time hyperedges at half their channels.

    validate: how many random slim models to time. model: whose predictions they are held against.
    """

    where: Where = field(default_factory=Where)
    effort: Effort = field(default_factory=Effort)
    options: Options = field(default_factory=Options)
    batch: int | None = None
    rules: tuple[RulesSource, ...] = ()
    halves: bool = False
    validate: int = 0
    model: str = "lut"


@dataclass(frozen=True, slots=True, eq=False)
class Profiled:
    """The profile and what it is worth. ran: slim models that were measured this time.

    samples: distinct sizes per cell. qualities: model -> cell -> how well it fits. multipliers: by
    hyperedge, empty unless asked for. fallback: why another provider ran, or empty.
    """

    profile: Profile = field(repr=False)
    setup: Setup
    ran: int
    dense_ns: float | None
    samples: Mapping[str, int] = field(repr=False)
    qualities: Mapping[str, Mapping[str, Quality]] = field(repr=False)
    multipliers: Mapping[str, float] = field(repr=False)
    validation: Validation | None
    fallback: str


def carry_out(
    subject: Subject,
    task: Task,
    out: Path | None,
    sources: Sequence[Path] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Profiled:
    """Do a task. out: the file that grows, group by group; None measures no cells if `sources`
    are given, and keeps nothing.

    A provider that cannot run falls back to the CPU, and what is measured is kept as the CPU's.
    Raises ProfileError, ModelError, UsageError.
    """
    if task.validate and task.model == HALF_EDGE:
        raise UsageError(f"--validate needs a model of cells: {', '.join(MODELS)}")
    subject = at_batch(subject, task.batch, task.rules)
    where, fallback = _where(subject, task.where)
    profile: Profile = {}
    for path in sources:
        merge(profile, read_profile(path))
    if out is not None and out.exists():
        merge(profile, read_profile(out))
    setup = setup_of(subject, where.provider, where.threads)

    def keep() -> None:
        if out is not None:
            write_profile(profile, out)

    levels = positive_levels(subject, task.options)
    ran = 0
    if out is not None or not sources:
        measured = profile.setdefault(setup, Measured())
        ran = _measure(subject, levels, measured, where, task, keep, progress)
    else:
        setup, measured = choose(profile, setup, sources[0])
    own = {}
    if task.halves:
        own = _multipliers(subject, measured, where, keep, progress)
    fitted = _fits(subject, measured)
    found = None
    if task.validate:
        found = validate(
            subject,
            fitted[task.model],
            levels,
            where,
            task.validate,
            task.effort.seed,
            lambda done, of: progress(f"validating: {done} of {of} slim models"),
        )
    keep()
    lut = fitted["lut"]
    return Profiled(
        profile=profile,
        setup=setup,
        ran=ran,
        dense_ns=lut(subject.graph.dense()),
        samples={key: len(s.times) for key, s in sorted(lut.samples.items())},
        qualities={name: fit.qualities() for name, fit in fitted.items()},
        multipliers=own,
        validation=found,
        fallback=fallback,
    )


def _where(subject: Subject, asked: Where) -> tuple[Where, str]:
    """What really runs, and why it is not what was asked for."""
    if asked.provider == "cpu":
        return asked, ""
    # The profiler's clock runs while a kernel is launched: without this it would not run while one
    # computes. CUDA reads it when the first session starts.
    os.environ.setdefault("CUDA_LAUNCH_BLOCKING", "1")
    session = make_session(subject.model, provider=asked.provider, threads=asked.threads)
    return Where(session.provider, asked.threads), session.fallback


def _measure(
    subject: Subject,
    levels: Sequence[IntArray],
    measured: Measured,
    where: Where,
    task: Task,
    keep: Callable[[], None],
    progress: Callable[[str], None],
) -> int:
    def step(done: int, of: int) -> None:
        progress(f"measured {done} of {of} slim models")
        keep()

    progress("measuring")
    return measure(subject, levels, measured, where, task.effort, step)


def _multipliers(
    subject: Subject,
    measured: Measured,
    where: Where,
    keep: Callable[[], None],
    progress: Callable[[str], None],
) -> dict[str, float]:
    name = model_name(subject)
    if name not in measured.halves:
        measured.halves[name] = time_halves(
            subject, where, progress=lambda done, of: progress(f"halved {done} of {of} hyperedges")
        )
        keep()
    return multipliers(subject.graph, measured.halves[name])


def _fits(subject: Subject, measured: Measured) -> dict[str, Predictor]:
    return {name: predictor(subject, measured, name) for name in MODELS}

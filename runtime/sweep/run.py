"""A sweep from end to end: its stages, then the Pareto front, the knee and the result file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.spec import suggest
from prunec.passes.options import Options
from prunec.passes.schedules.one_shot import OneShot
from prunec.runtime.accuracy import Accuracy
from prunec.runtime.compile import Progress, Settings, priced, silent
from prunec.runtime.latency.attach import HALF_EDGE, names_latency
from prunec.runtime.latency.kernels import Where
from prunec.runtime.latency.session import Task, carry_out
from prunec.runtime.scores import with_scores
from prunec.runtime.stage import staged, write_text
from prunec.runtime.subject import Subject
from prunec.runtime.sweep import front
from prunec.runtime.sweep.grid import Grid
from prunec.runtime.sweep.keys import profile_key
from prunec.runtime.sweep.points import TIME, Point, Sweep
from prunec.runtime.sweep.stages import Job, Stages, SweepSettings
from prunec.runtime.sweep.store import prepare


def sweep(
    subject: Subject,
    grid: Grid,
    options: Options,
    settings: Settings,
    how: SweepSettings | None = None,
    progress: Progress = silent,
) -> Sweep:
    """Decide, check and measure every point; what a folder holds already is not done again.

    Points are decided and checked by the workers, in any order, with the same results for any
    number and kind of them (solvers that stop by time apart). Latency is measured here, after
    that, one point after the other: neighbours would be measured too. Raises UsageError,
    NothingToPruneError, OutputError, MissingDependencyError; a budget that can't be met is a point
    without a plan.
    """
    how = how or SweepSettings()
    if options.gamma is not None:
        raise UsageError("a sweep removes channels; --kernel-positions per-filter is for one model")
    if options.schedule != OneShot():
        raise UsageError("a sweep scores once for all budgets; --schedule is for one model")
    if how.folder is not None:
        settings = _with_profile(subject, grid, options, settings, how.folder, progress)
    timed, record = priced(subject, grid.labels, options, settings, progress)
    options, given = with_scores(options, settings)
    if given is not None:
        record = {**record, "scores": given.record()}
    # Of a budget's own names, those who read the budget complain.
    against = _against(how.against, timed.graph, settings) if how.against else grid.resource
    if how.models and how.folder is None:
        raise UsageError("models need a folder to be written to")
    job = Job(subject, timed.graph, record, options, settings, how, progress)
    run = Stages(job, grid.labels)
    run.decide()
    run.check()
    run.measure()
    best = _front(run.points, run.dense_accuracy, against)
    if how.knee and how.folder is not None and best.knee is not None:
        run.write_model(best.knee)
        best = _front(run.points, run.dense_accuracy, against)  # its proof may have failed
    found = Sweep(
        model="" if subject.path is None else subject.path.name,
        points=_shown(run.points, settings, how, best.knee),
        dense={name: cost(timed.graph.dense()) for name, cost in timed.graph.costs.items()},
        dense_accuracy=run.dense_accuracy,
        against=against,
        front=best.points,
        knee=best.knee,
        folder=how.folder,
    )
    if how.folder is not None:
        path = how.folder / "sweep.json"
        with staged([path]) as stage:
            write_text(stage[path], json.dumps(found.to_dict(), indent=1, sort_keys=True) + "\n")
    return found


def _with_profile(
    subject: Subject,
    grid: Grid,
    options: Options,
    settings: Settings,
    folder: Path,
    progress: Progress,
) -> Settings:
    """A profile in the folder where latency is limited and none is given: measured once.

    It has its name when it is complete: what an interrupted run measured is then taken up.
    """
    if settings.profile is not None or not names_latency(grid.labels):
        return settings
    path = folder / f"{profile_key(subject, options, settings)[:12]}.profile.json"
    if path.exists():
        return replace(settings, profile=path)
    task = Task(
        where=Where(settings.provider, settings.threads),
        options=options,
        batch=settings.batch,
        rules=settings.rules,
        halves=settings.latency_model == HALF_EDGE,
        model=settings.latency_model,
    )
    prepare(folder)
    growing = path.with_suffix(".part")
    carry_out(subject, task, growing, (), progress)
    growing.replace(path)
    return replace(settings, profile=path)


def _against(name: str, graph: Hypergraph, settings: Settings) -> str:
    if name == TIME and not settings.bench:
        raise UsageError("--against time needs --bench")
    if name != TIME and name not in graph.costs:
        raise UsageError(
            f"--against: unknown resource {name!r}{suggest(name, [*graph.costs, TIME])}"
        )
    return name


@dataclass(frozen=True, slots=True)
class _Front:
    points: tuple[int, ...]
    knee: int | None


def _front(points: Sequence[Point], dense: Accuracy | None, against: str) -> _Front:
    """The Pareto points and the knee."""
    found = [
        (k, cost, loss)
        for k, point in enumerate(points)
        if (cost := point.cost(against)) is not None and (loss := point.loss(dense)) is not None
    ]
    chosen = [found[n] for n in front.pareto([c for _, c, _ in found], [x for *_, x in found])]
    best = front.knee([c for _, c, _ in chosen], [x for *_, x in chosen])
    return _Front(tuple(k for k, *_ in chosen), None if best is None else chosen[best][0])


def _shown(
    points: Sequence[Point], settings: Settings, how: SweepSettings, knee: int | None
) -> tuple[Point, ...]:
    """What was asked for; a folder may know more, from an earlier run."""
    written = [how.models or (how.knee and k == knee) for k in range(len(points))]
    return tuple(
        replace(
            point,
            model=point.model if own else None,
            verification=point.verification if own or how.prove else None,
            latency=point.latency if settings.bench else None,
        )
        for point, own in zip(points, written, strict=True)
    )

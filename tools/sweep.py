"""``prunec sweep MODEL --budget flops=0.9..0.3:0.05``: one scoring, many budgets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.compiler.errors import MissingDependencyError, OutputError, UsageError
from prunec.tools.main_job import add_config, add_model, analyse, beside
from prunec.tools.metric_words import metric_label, metric_title, metric_value
from prunec.tools.options import (
    CHOOSING,
    DATA,
    EVALUATION,
    FREEING,
    GROUPING,
    RECOVER,
    RUNNING,
    SAYING,
    Option,
    whole,
)
from prunec.tools.render import Block, Console, Table, duration
from prunec.tools.settings import choosing_options, run_settings
from prunec.tools.summary import diagnostic_lines

if TYPE_CHECKING:
    from prunec.runtime.sweep.points import Point, Sweep

BACKENDS = ("loky", "threading", "dask", "ray")  # a test holds them equal to those of the runtime
RANGES = (
    "what the results may cost at most: R=FIRST..LAST:STEP, R='V|V|V', and R=V where it stays; "
    "ranges of several resources walk together. Units as for the main job"
)
OPTIONS = {
    "choosing": tuple(
        replace(option, help=RANGES, metavar="R=A..B:S[,R=V]") if option.key == "budget" else option
        for option in CHOOSING
    ),
    "grouped convolutions": GROUPING,
    "analysis": FREEING,
    "data": (*DATA, RECOVER, *EVALUATION),
    "proof and measurement": (
        Option(
            "verify",
            "prove every point; by default the models that are written, and with --no-verify none",
            bool,
        ),
        Option("bench", "measure the latency of every point, one after the other", bool),
        *RUNNING,
    ),
    "workers": (
        Option("jobs", "points at once; 0: one per core (default: 1)", whole(0), "N"),
        Option("backend", "joblib's back end for them (default: loky)", choices=BACKENDS),
        Option("address", "of a Dask scheduler or a Ray cluster", metavar="tcp://HOST:PORT"),
    ),
    "output": (
        Option(
            "output",
            "the folder of plans and results; points in it are not computed again "
            "(default: MODEL.sweep)",
            metavar="DIR",
            short="-o",
            file=True,
        ),
        Option("models", "write the pruned model of every point", bool, default=False),
        Option(
            "knee",
            "name the Pareto point that lies farthest below the chord between the ends of the "
            "front (Kneedle), and write its model",
            bool,
            default=False,
        ),
        Option(
            "against",
            "what losses are set against: a resource, or time, the measured latency (default: the "
            "first resource with a range)",
            metavar="R",
        ),
        Option("plot", "write sweep.png and sweep.svg (needs matplotlib)", bool, default=True),
        *SAYING,
    ),
}
FAILED, UNREACHED, NOT_PROVEN = 1, 3, 4


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)
    add_config(parser)


def run(space: argparse.Namespace, console: Console) -> int:
    """Print the points; 0, or what `_code` says."""
    if not space.budget:
        raise UsageError("--budget is required, for example --budget flops=0.9..0.3:0.05")
    from prunec.runtime.sweep.grid import parse_grid
    from prunec.runtime.sweep.points import plan_name
    from prunec.runtime.sweep.run import sweep
    from prunec.runtime.sweep.stages import SweepSettings
    from prunec.runtime.sweep.workers import Workers

    model = Path(space.model)
    folder = Path(space.output) if space.output else beside(model, ".sweep")
    grid = parse_grid(space.budget)
    how = SweepSettings(
        folder=folder,
        workers=Workers(space.jobs, space.backend, space.address),
        prove=bool(space.verify),
        models=bool(space.models),
        knee=bool(space.knee),
        against=space.against,
    )
    options = choosing_options(space, space.overrides)
    space.verify, space.bench = space.verify is not False, bool(space.bench)
    settings = run_settings(space)
    _check_folder(folder)
    console.watch(*(folder / plan_name(label) for label in grid.labels), folder / "sweep.json")
    with console.progress() as progress:
        subject = analyse(model, settings, progress)
        found = sweep(subject, grid, options, settings, how, progress)
        plots, missing = _draw(found, folder) if space.plot else ((), "")
    from prunec.runtime.compile import fitted

    judged = any(p.accuracy and p.plan and "recovery" in p.plan.components for p in found.points)
    diagnostics = (*subject.graph.diagnostics, *fitted(settings, judged))
    console.result(
        lambda: {
            **found.to_dict(),
            "model": str(model),
            "folder": str(folder),
            "plots": [str(path) for path in plots],
            "diagnostics": [d.to_dict() for d in diagnostics],
        },
        [
            *blocks(found),
            *([diagnostic_lines(diagnostics)] if diagnostics else []),
            *([missing] if missing else []),
            f"folder  {folder}",
        ],
    )
    return _code(found, how.knee)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that can't be made before any work is done."""
    if folder.suffix == ".onnx" and not folder.exists():
        # Most likely the `output` of a prunec.toml that was written for the main job.
        raise UsageError(f"{folder}: a sweep writes a folder of many files; name one with -o")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is not a folder")
    if not folder.parent.is_dir():
        raise OutputError(f"{folder}: the folder {folder.parent} does not exist")


def _draw(found: Sweep, folder: Path) -> tuple[tuple[Path, ...], str]:
    """The plots, or why there are none: results are worth more than their picture."""
    from prunec.tools.plot import draw

    if not found.front:
        return (), ""
    try:
        return draw(found, folder), ""
    except MissingDependencyError as error:
        return (), f"no plot: {error}"


def _code(found: Sweep, knee: bool) -> int:
    """0; 4 where a proof failed, 3 or 1 where no point has a plan, 1 where there is no knee."""
    from prunec.runtime.sweep.points import State

    states = {point.state for point in found.points}
    if State.WRONG in states:
        code, why = NOT_PROVEN, "a point is not proven"
    elif not found.front:
        code = FAILED if State.FAILED in states else UNREACHED
        why = "no point could be reached"
    elif knee and found.knee is None:
        code, why = FAILED, "the front has no knee: no point lies below the chord of its ends"
    else:
        return 0
    print(f"prunec: {why}", file=sys.stderr)
    return code


def blocks(found: Sweep) -> list[Block]:
    """What the terminal shows."""
    out: list[Block] = [_table(found)]
    named = [f"{p.label}: {p.state.value}: {p.message}" for p in found.points if p.message]
    if named:
        out.append("\n".join(named))
    out.append("\n".join(_notes(found)))
    return out


def _table(found: Sweep) -> Table:
    # A line must fit: the costs that are limited, and the two that everybody asks for.
    limited = {name for point in found.points for name in point.limits} | {found.against}
    resources = [name for name in found.dense if name in {"flops", "params", *limited}]
    columns = ["loss", "gap"]
    columns += [] if found.metric is None else [metric_label(found.metric)]
    timed = any(p.latency is not None for p in found.points)
    columns += ["time", "speed-up"] if timed else []
    numeric = frozenset({*resources, *columns})
    rows = []
    for k, point in enumerate(found.points):
        ratios = [
            "-" if point.plan is None else _ratio(*point.plan.costs[name]) for name in resources
        ]
        values = dict(_values(point))
        rows.append(
            (
                point.label,
                *ratios,
                *(values.get(column, "-") for column in columns),
                _mark(found, k),
            )
        )
    return Table(("budget", *resources, *columns, ""), rows, numeric)


def _ratio(dense: int, pruned: int) -> str:
    return f"{pruned / dense:.4f}" if dense else "-"


def _values(point: Point) -> Iterator[tuple[str, str]]:
    if point.plan is not None:
        yield "loss", f"{point.predicted_loss:.4%}"
        yield "gap", "not proven" if point.plan.gap is None else f"{point.plan.gap:.4%}"
    if point.accuracy is not None:
        name, value = point.accuracy.first
        if value is not None:
            yield metric_label(name), metric_value(name, value)
    if point.latency is not None:
        yield "time", duration(point.latency.pruned_s)
        yield "speed-up", f"{point.latency.speedup:.2f} x"


def _mark(found: Sweep, k: int) -> str:
    point = found.points[k]
    marks = [] if point.plan is not None else [point.state.value]
    marks += ["*"] if k in found.front else []
    marks += ["knee"] if k == found.knee else []
    return " ".join(marks)


def _notes(found: Sweep) -> Iterator[str]:
    loss = "predicted loss" if found.metric is None else metric_title(found.metric)
    yield f"*  on the Pareto front of {loss} against {found.against}"
    if found.dense_accuracy is not None:
        dense = found.dense_accuracy
        name, value = dense.first
        if value is not None:
            yield f"dense  {metric_label(name)} {metric_value(name, value)} of {dense.samples}"
    recoveries = {p.plan.components.get("recovery", "") for p in found.points if p.plan} - {""}
    if recoveries:
        yield f"recovery  {', '.join(sorted(recoveries))}"
    latencies = [p.latency for p in found.points if p.latency is not None]
    if latencies:
        some = latencies[0]
        threads = f"{some.threads} thread{'s' * (some.threads != 1)}"
        yield f"dense  time {duration(some.dense_s)} ({some.provider}, {threads})"
    if found.knee is not None:
        yield from _knee(found, found.points[found.knee])


def _knee(found: Sweep, point: Point) -> Iterator[str]:
    from prunec.runtime.sweep.points import plan_name

    folder: Any = found.folder
    yield f"knee   {point.label}: {folder / plan_name(point.label)}"
    if point.model is not None:
        yield f"       {folder / point.model}"

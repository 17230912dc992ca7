"""``prunec profile MODEL``: measure what kernels take here, for latency budgets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from prunec.tools.main_job import add_model, analyse, beside, check_targets
from prunec.tools.options import CHOOSING, FREEING, RUNNING, SAYING, Option, whole
from prunec.tools.parsing import settle
from prunec.tools.render import Block, Console, Table, duration
from prunec.tools.settings import choosing_options, run_settings

if TYPE_CHECKING:
    from prunec.compiler.latency import Quality
    from prunec.runtime.latency.session import Profiled
    from prunec.runtime.latency.validate import Validation

GRID = frozenset({"align", "min_keep", "latency_model", "batch"})
KEY_WIDTH = 72
OPTIONS = {
    "measurement": (
        *RUNNING,
        Option("models", "slim models to measure", whole(2), "N", default=48),
        Option("rounds", "counted rounds of each, of two runs", whole(1), "N", default=5),
        Option(
            "passes",
            "go over all models N times: what disturbs one pass may spare the next",
            whole(1),
            "N",
            default=2,
        ),
        Option("seed", "of the widths", whole(0), "N", default=0),
        Option("validate", "time N random slim models against the prediction", whole(1), "N"),
        Option(
            "half_edge",
            "time each hyperedge at half its channels, for --latency-model half-edge",
            bool,
            default=False,
        ),
        Option(
            "multipliers_out",
            "write the factors of --half-edge there, for --edge-multipliers; implies it",
            metavar="PATH",
            file=True,
        ),
    ),
    "grid": tuple(option for option in CHOOSING if option.key in GRID),
    "analysis": FREEING,
    "output": (
        Option(
            "profile",
            "only read this profile, measure nothing for it",
            metavar="PATH",
            file=True,
        ),
        Option(
            "output",
            "the profile; what it has already is kept and not measured again "
            "(default: MODEL.profile.json beside the model)",
            metavar="PATH",
            short="-o",
            file=True,
        ),
        Option(
            "merge", "another profile whose measurements are added", metavar="PATH", many=True,
            file=True,
        ),
        *SAYING,
    ),
}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)


def run(space: argparse.Namespace, console: Console) -> int:
    """Measure what is missing, and say how well it predicts; 0 or an exception."""
    from prunec.runtime.latency.kernels import Where
    from prunec.runtime.latency.measure import Effort
    from prunec.runtime.latency.session import Task, carry_out

    model = Path(space.model)
    out = None
    if not space.profile:
        out = Path(space.output) if space.output else beside(model, ".profile.json")
        check_targets(model, out)
        console.watch(out)
    settle(space, CHOOSING)
    options = choosing_options(space, {})
    settings = run_settings(space)
    with console.progress() as progress:
        subject = analyse(model, settings, progress)
        task = Task(
            where=Where(settings.provider, settings.threads),
            effort=Effort(space.models, space.rounds, space.passes, space.seed),
            options=options,
            batch=space.batch,
            rules=settings.rules,
            halves=bool(space.half_edge or space.multipliers_out),
            validate=space.validate or 0,
            model=space.latency_model,
        )
        files = [Path(path) for path in ([space.profile] if space.profile else [])]
        found = carry_out(subject, task, out, [*files, *map(Path, space.merge)], progress)
    if space.multipliers_out:
        from prunec.runtime.stage import staged, write_text

        target = Path(space.multipliers_out)
        with staged([target]) as stage:
            write_text(stage[target], _multipliers_json(found))
    if found.fallback and (console.quiet or console.json):
        print(f"prunec: {found.fallback}", file=sys.stderr)
    console.result(lambda: _document(model, out, found), _blocks(out, found))
    return 0


def _multipliers_json(found: Profiled) -> str:
    import json

    return json.dumps(dict(found.multipliers), indent=1, sort_keys=True) + "\n"


def _document(model: Path, out: Path | None, found: Profiled) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "model": str(model),
        "profile": None if out is None else str(out),
        "setup": asdict(found.setup),
        "fallback": found.fallback,
        "measured_models": found.ran,
        "dense_ns": found.dense_ns,
        "cells": {
            key: {name: asdict(table[key]) for name, table in found.qualities.items()}
            for key in found.samples
        },
        "multipliers": dict(found.multipliers),
        "validation": None if found.validation is None else found.validation.to_dict(),
    }


def _blocks(out: Path | None, found: Profiled) -> list[Block]:
    blocks: list[Block] = [str(found.setup)]
    if found.fallback:
        blocks.append(found.fallback)
    if found.qualities:
        blocks.append(_cells(found))
        blocks.append(
            "MPE: mean |predicted - measured| / measured; of lut, each fifth of the measurements "
            "is predicted from the others"
        )
    if found.dense_ns is not None:
        blocks.append(f"predicted for the dense model: {duration(found.dense_ns * 1e-9)}")
    if found.multipliers:
        rows = [(name, f"{factor:.4f}") for name, factor in found.multipliers.items()]
        blocks.append(Table(("hyperedge", "latency / FLOPs"), rows, frozenset({"latency / FLOPs"})))
    if found.validation is not None:
        blocks.append(_validated(found.validation))
    if out is not None:
        blocks.append(f"profile  {out} ({found.ran} slim models measured)")
    return blocks


def _cells(found: Profiled) -> Table:
    def row(name: str, count: str, own: list[Quality]) -> tuple[str, ...]:
        return (name, count, *(t for q in own for t in (f"{q.mpe:.2%}", f"{q.r2:.4f}")))

    rows = [
        row(_short(key), str(count), [table[key] for table in found.qualities.values()])
        for key, count in found.samples.items()
    ]
    means = [
        type(next(iter(table.values())))(
            fmean(q.mpe for q in table.values()),
            fmean(q.r2 for q in table.values()),
        )
        for table in found.qualities.values()
    ]
    rows.append(row("mean", "", means))
    names = [f"{model} {what}" for model in found.qualities for what in ("MPE", "R2")]
    return Table(("cell", "sizes", *names), rows, frozenset({"sizes", *names}))


def _short(key: str) -> str:
    return key if len(key) <= KEY_WIDTH else key[: KEY_WIDTH - 3] + "..."


def _validated(found: Validation) -> str:
    return (
        f"{len(found.measured)} random slim models: mean error {found.quality.mpe:.2%}, "
        f"R2 {found.quality.r2:.4f}, bias {found.bias:+.2%}, worst {found.worst:.2%}"
    )

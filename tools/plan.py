"""``prunec plan MODEL --budget ...``: decide without rewriting."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunec.compiler.errors import UsageError
from prunec.tools.main_job import add_config, add_model, beside, check_targets, decide
from prunec.tools.options import (
    CHOOSING,
    DATA,
    FREEING,
    GROUPING,
    RECOVER,
    RUNNING,
    SAYING,
    Option,
)
from prunec.tools.render import Console
from prunec.tools.settings import run_settings
from prunec.tools.summary import plan_blocks, plan_document

OPTIONS = {
    "choosing": CHOOSING,
    "grouped convolutions": GROUPING,
    "analysis": FREEING,
    "data": (*DATA, RECOVER, *RUNNING),
    "output": (
        Option(
            "output",
            "the plan; - for stdout (default: MODEL.plan.json beside the model)",
            metavar="PATH",
            short="-o",
            file=True,
        ),
        *SAYING,
    ),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)
    add_config(parser)


def run(space: argparse.Namespace, console: Console) -> int:
    """Write the plan; 0 or an exception."""
    model = Path(space.model)
    to_stdout = space.output == "-"
    if to_stdout and console.json:
        raise UsageError("--output - and --json both want stdout; choose one")
    out = Path(space.output) if space.output else beside(model, ".plan.json")
    settings = run_settings(space)
    if not to_stdout:
        check_targets(model, out)
        console.watch(out)
    with console.progress() as progress:
        subject, plan = decide(space, settings, progress)
        if not to_stdout:
            from prunec.runtime.stage import staged, write_text

            with staged([out], subject) as stage:
                write_text(stage[out], plan.to_json())
    if to_stdout:
        console.text(plan.to_json())
        return 0
    found = subject.graph.diagnostics
    console.result(lambda: plan_document(model, plan, out, found), plan_blocks(plan, out, found))
    return 0

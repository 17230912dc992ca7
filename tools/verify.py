"""``prunec verify DENSE PRUNED PLAN``: the oracle alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunec.tools.main_job import add_model, analyse
from prunec.tools.options import ANALYSING, SAYING, Option, whole
from prunec.tools.parsing import complete_files
from prunec.tools.plan_file import blamed_on, read_plan
from prunec.tools.render import Console
from prunec.tools.settings import run_settings
from prunec.tools.summary import check_table, cost_table

FAILED = 4
OPTIONS = {
    "analysis": (
        *ANALYSING,
        Option("seed", "of the random inputs and selector weights", whole(0), "N", default=0),
    ),
    "output": SAYING,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser, "DENSE")
    add_model(parser, "PRUNED")
    complete_files(parser.add_argument("plan", metavar="PLAN", help="the plan between them"))


def run(space: argparse.Namespace, console: Console) -> int:
    """Print the checks; 4 if one of them fails."""
    settings = run_settings(space)
    plan = read_plan(Path(space.plan))
    with console.progress() as progress:
        from prunec.frontends.onnx import load
        from prunec.runtime.check_plan import check_plan
        from prunec.runtime.verify import verify

        subject = analyse(space.dense, settings, progress, plan)
        with blamed_on(Path(space.plan)):
            check_plan(subject, plan)
        pruned = load(space.pruned)
        progress("verifying")
        result = verify(subject, plan, pruned, Path(space.pruned), seed=space.seed)
    console.result(
        result.to_dict,
        [
            cost_table(plan.costs, plan.budget),
            check_table(result),
            "verified" if result.passed else "NOT VERIFIED",
        ],
    )
    if not result.passed and console.quiet and not console.json:
        result.require()
    return 0 if result.passed else FAILED

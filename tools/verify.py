"""``prunec verify DENSE PRUNED PLAN``: the oracle alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from prunec.tools.main_job import add_model, analyse
from prunec.tools.options import ANALYSING, SAYING, Option, whole
from prunec.tools.parsing import complete_files
from prunec.tools.plan_file import blamed_on, read_plan
from prunec.tools.render import Console
from prunec.tools.settings import run_settings
from prunec.tools.summary import check_table, cost_table

if TYPE_CHECKING:
    import onnx_ir as ir

    from prunec.compiler.plan import Plan
    from prunec.runtime.subject import Subject

FAILED = 4
OPTIONS = {
    "analysis": (
        *ANALYSING,
        Option(
            "retrained",
            "weights were changed after slicing, by --recover or by training: prove the slicing by "
            "carrying it out again, and that nothing but numbers of float weights differs "
            "(default: what the plan says of recovery)",
            bool,
        ),
        Option("seed", "of the random inputs and selector weights", whole(0), "N", default=0),
    ),
    "output": SAYING,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser, "DENSE")
    add_model(parser, "PRUNED")
    complete_files(parser.add_argument("plan", metavar="PLAN", help="the plan between them"))


def _hint(subject: Subject, plan: Plan, pruned: ir.Model) -> str:
    """What to do where all that is wrong is that weights were changed since."""
    from prunec.runtime.recovery.prove import verify_changed
    from prunec.runtime.regroup.prove import verify_grouped

    proved = (
        verify_grouped(subject, plan, pruned, retrained=True)
        if plan.groups
        else verify_changed(subject, plan, pruned)
    )
    if not proved.passed:
        return ""
    return ": nothing but numbers of float weights differs from slicing; --retrained proves that"


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
        path = Path(space.pruned)
        retrained = "recovery" in plan.components if space.retrained is None else space.retrained
        if "quantize" in plan.components:
            from prunec.runtime.quantize.verify import verify_quantised

            result = verify_quantised(subject, plan, pruned, path, seed=space.seed)
        elif plan.groups:
            from prunec.runtime.regroup.prove import verify_grouped

            result = verify_grouped(
                subject, plan, pruned, path, retrained=retrained, seed=space.seed
            )
        elif retrained:
            from prunec.runtime.recovery.prove import verify_changed

            result = verify_changed(subject, plan, pruned, path, seed=space.seed)
        else:
            result = verify(subject, plan, pruned, path, seed=space.seed)
        hint = ""
        if not (result.passed or retrained or space.retrained is False):
            hint = _hint(subject, plan, pruned)
    console.result(
        result.to_dict,
        [
            cost_table(plan.costs, plan.budget),
            check_table(result),
            "verified" if result.passed else f"NOT VERIFIED{hint}",
        ],
    )
    if not result.passed and console.quiet and not console.json:
        result.require()
    return 0 if result.passed else FAILED

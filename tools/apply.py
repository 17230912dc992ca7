"""``prunec apply MODEL PLAN``: rewrite a model by a plan."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunec.tools.main_job import add_model, analyse, beside, check_targets
from prunec.tools.options import (
    ANALYSING,
    DATA,
    EVALUATION,
    OUTPUT,
    PROVING,
    QUANTISING,
    RECOVER,
    SAYING,
)
from prunec.tools.parsing import complete_files
from prunec.tools.plan_file import blamed_on, read_plan
from prunec.tools.render import Console
from prunec.tools.settings import run_settings
from prunec.tools.summary import report_blocks, report_document

OPTIONS = {
    "analysis": ANALYSING,
    "data": (*DATA, RECOVER, *EVALUATION),
    "quantisation": QUANTISING,
    "proof and measurement": PROVING,
    "output": (OUTPUT, *SAYING),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)
    complete_files(parser.add_argument("plan", metavar="PLAN", help="a plan for this model"))


def run(space: argparse.Namespace, console: Console) -> int:
    """Write the pruned model; 0 or an exception."""
    model, plan_path = Path(space.model), Path(space.plan)
    out = Path(space.output) if space.output else beside(model, ".pruned.onnx")
    settings = run_settings(space)
    plan = read_plan(plan_path)
    check_targets(model, plan_path, out)
    console.watch(out)
    with console.progress() as progress:
        from prunec.runtime.compile import compile_model

        subject = analyse(model, settings, progress, plan)
        with blamed_on(plan_path):
            result = compile_model(subject, plan, settings, out, None, progress)
    console.result(
        lambda: report_document(model, result, out, None),
        report_blocks(result, out, None, console.verbose > 0),
    )
    return 0

"""``prunec explain MODEL AXIS``: why channels leave together, or why they can't leave."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunec.compiler.errors import UsageError
from prunec.tools.main_job import add_model, analyse
from prunec.tools.options import FREEING, SAYING, Option
from prunec.tools.plan_file import read_plan
from prunec.tools.render import Console
from prunec.tools.settings import run_settings

PLAN = Option(
    "plan",
    "also tell the groups of this weight's channels in a plan for the model",
    metavar="PATH",
    file=True,
)
OPTIONS = {"analysis": (*FREEING, PLAN), "output": SAYING}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)
    parser.add_argument("axis", metavar="AXIS", help="a value's name and axis: conv1.weight:0")


def run(space: argparse.Namespace, console: Console) -> int:
    """Print the explanation; 0 or an exception."""
    value, axis = parse_axis(space.axis)
    settings = run_settings(space)
    plan = read_plan(Path(space.plan)) if space.plan else None
    with console.progress() as progress:
        from prunec.compiler.explain import explain
        from prunec.compiler.grouped import blocks_in_words, groups_in_words
        from prunec.runtime.check_plan import require_digest

        subject = analyse(space.model, settings, progress, plan)
        if plan is not None:
            require_digest(subject, plan)
        lines = explain(subject.graph, value, axis)
        lines += groups_in_words(subject.model, value, axis)
        lines += [] if plan is None else blocks_in_words(plan, value, axis)
    console.result(lambda: {"value": value, "axis": axis, "explanation": lines}, ["\n".join(lines)])
    return 0


def parse_axis(text: str) -> tuple[str, int]:
    """Value name and axis; names may hold colons. Raises UsageError.

    >>> parse_axis("onnx::Conv_12:0")
    ('onnx::Conv_12', 0)
    """
    value, colon, axis = text.rpartition(":")
    if not colon or not value or not axis.isdecimal():
        raise UsageError(f"axis {text!r}: write a value's name and an axis, such as conv1.weight:0")
    return value, int(axis)

"""``prunec MODEL --budget ...``: choose, rewrite, prove, measure, write."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from prunec.compiler.errors import OutputError, UsageError
from prunec.tools.options import MAIN
from prunec.tools.parsing import complete_files
from prunec.tools.render import Console
from prunec.tools.settings import choosing_options, run_settings
from prunec.tools.summary import report_blocks, report_document

if TYPE_CHECKING:
    from prunec.compiler.plan import Plan
    from prunec.runtime.compile import Progress, Settings
    from prunec.runtime.subject import Subject

OPTIONS = MAIN


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_model(parser)
    add_config(parser)


def add_model(parser: argparse.ArgumentParser, metavar: str = "MODEL") -> None:
    """Add a positional model file."""
    complete_files(parser.add_argument(metavar.lower(), metavar=metavar, help="an ONNX file"))


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``."""
    complete_files(
        parser.add_argument(
            "--config",
            metavar="PATH",
            help="TOML file with any of the options below by name, and tables "
            "[hyperedges.'REGEX'] with align, min_keep, keep; the command line wins",
        )
    )


def run(space: argparse.Namespace, console: Console) -> int:
    """Do the main job; 0 or an exception."""
    from prunec.runtime.compile import compile_model, plan_path

    model = Path(space.model)
    if not space.output and model.exists() and not model.is_file() and not model.is_dir():
        raise UsageError(f"{model} is not a regular file: say with -o where the result goes")
    out = Path(space.output) if space.output else beside(model, ".pruned.onnx")
    plan_out = Path(space.plan_out) if space.plan_out else plan_path(out)
    settings = run_settings(space)
    check_targets(model, out, plan_out)
    console.watch(out, plan_out)
    with console.progress() as progress:
        subject, plan = decide(space, settings, progress)
        result = compile_model(subject, plan, settings, out, plan_out, progress)
    console.result(
        lambda: report_document(model, result, out, plan_out),
        report_blocks(result, out, plan_out, console.verbose > 0),
    )
    return 0


def decide(
    space: argparse.Namespace, settings: Settings, progress: Progress
) -> tuple[Subject, Plan]:
    """Open the model and choose. Raises UsageError without a budget where one is needed."""
    options = choosing_options(space, space.overrides)
    from prunec.runtime.compile import plan_for, require_budget

    require_budget(space.budget, options)

    subject = analyse(space.model, settings, progress)
    progress("choosing what to keep")
    return subject, plan_for(subject, space.budget, options, settings, progress)


def analyse(
    model: str | Path, settings: Settings, progress: Progress, plan: Plan | None = None
) -> Subject:
    """Open a model; with the freedom of a plan that is to be applied to it, if there is one."""
    from prunec.runtime.subject import open_model

    progress("analysing")
    return open_model(
        model,
        settings.shapes,
        strict=settings.strict,
        freedom=settings.freedom if plan is None else plan.freedom,
        rules=settings.rules,
    )


def beside(model: Path, suffix: str) -> Path:
    """The file in the model's folder that is named after it.

    >>> beside(Path("nets/a.onnx"), ".pruned.onnx").as_posix()
    'nets/a.pruned.onnx'
    """
    return model.with_name(model.name.removesuffix(".onnx") + suffix)


def check_targets(source: Path, *targets: Path) -> None:
    """Refuse outputs that can't be written before any work is done. Raises OutputError."""
    for number, target in enumerate(targets):
        if target.resolve() in [t.resolve() for t in (source, *targets[:number])]:
            raise OutputError(f"{target}: would overwrite the input or another output")
        if target.is_dir():
            raise OutputError(f"{target}: is a directory; give a file name")
        if target.exists() and not target.is_file():
            raise OutputError(f"{target}: is not a regular file; outputs replace files only")
        if not target.parent.is_dir():
            raise OutputError(f"{target}: the folder {target.parent} does not exist")
        if not os.access(target.parent, os.W_OK):
            raise OutputError(f"{target}: the folder {target.parent} is not writable")

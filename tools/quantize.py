"""``prunec quantize MODEL RECIPE --data calibration``: integers for floats."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from prunec.tools.main_job import add_model, beside, check_targets
from prunec.tools.options import (
    ANALYSING,
    DATA,
    EVALUATION,
    QUANTIZE_EXCLUDE,
    RUNNING,
    SAYING,
    Option,
)
from prunec.tools.quantised_summary import quantised_blocks, quantised_table
from prunec.tools.render import Console
from prunec.tools.settings import run_settings
from prunec.tools.summary import diagnostic_lines

if TYPE_CHECKING:
    from prunec.runtime.quantize.job import QuantisedModel
    from prunec.tools.render import Block

OPTIONS = {
    "analysis": ANALYSING,
    "data": (*DATA, *EVALUATION),
    "quantisation": (QUANTIZE_EXCLUDE,),
    "proof and measurement": (
        Option("verify", "prove that nothing but rounding changed", bool, default=True),
        Option("bench", "measure the latency of both models", bool, default=False),
        *RUNNING,
    ),
    "output": (
        Option(
            "output",
            "the quantised model (default: MODEL.quantised.onnx beside the model)",
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
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help="w8a8, w4a8, w4a4, w8a16, weights=int8, weights=int4, with options in braces: "
        "w8a8{ranges=entropy,rounding=gptq}; or a .json or .toml file",
    )


def run(space: argparse.Namespace, console: Console) -> int:
    """Write the quantised model; 0 or an exception."""
    model = Path(space.model)
    out = Path(space.output) if space.output else beside(model, ".quantised.onnx")
    settings = run_settings(space)
    check_targets(model, out)
    console.watch(out)
    with console.progress() as progress:
        from prunec.runtime.quantize.job import quantise_model

        found = quantise_model(model, space.recipe, settings, out, progress)
    console.result(
        lambda: {"model": str(model), "output": str(out), **found.to_dict()},
        _blocks(found, out, console.verbose > 0),
    )
    return 0


def _blocks(found: QuantisedModel, out: Path, verbose: bool) -> list[Block]:
    blocks: list[Block] = [quantised_table(found)]
    blocks += quantised_blocks(found.report, verbose)
    if found.checks:
        from prunec.tools.summary import checks_table

        blocks.append(checks_table(found.checks))
    if found.diagnostics:
        blocks.append(diagnostic_lines(found.diagnostics))
    blocks.append(f"model  {out}")
    return blocks

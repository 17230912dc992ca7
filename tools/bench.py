"""``prunec bench A.onnx B.onnx``: latency side by side, and memory."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from prunec.tools.options import ANALYSING, RUNNING, SAYING, Option, seconds, whole
from prunec.tools.parsing import complete_files
from prunec.tools.render import Block, Console, Table, duration, quantity
from prunec.tools.settings import run_settings

if TYPE_CHECKING:
    from prunec.runtime.bench import BenchResult

NOT_FASTER = 5
_HEADER = ("model", "size", "median", "fastest", "speed-up", "95 % interval")
OPTIONS = {
    "measurement": (
        *RUNNING,
        Option("batch", "for symbolic first dimensions", whole(1), "N", default=1),
        Option("rounds", "at most so many samples of each model", whole(1), "N", default=50),
        Option("seconds", "measure for at most so long", seconds, "S", default=20.0),
        Option(
            "memory",
            "also what onnxruntime allocates for the activations of a run on the CPU",
            bool,
            default=False,
        ),
        ANALYSING[0],
    ),
    "output": SAYING,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    complete_files(
        parser.add_argument(
            "models",
            metavar="MODEL",
            nargs="+",
            help="ONNX files; each is compared with the first, exit code 5 unless all are faster",
        )
    )


def run(space: argparse.Namespace, console: Console) -> int:
    """Print the timings; 5 unless every other model is faster than the first."""
    settings = run_settings(space)
    with console.progress() as progress:
        from prunec.runtime.bench import bench

        progress("measuring latency")
        result = bench(
            space.models,
            provider=settings.provider,
            threads=settings.threads,
            batch=space.batch,
            rounds=space.rounds,
            seconds=space.seconds,
            shapes=settings.shapes,
            memory=space.memory,
        )
    if result.fallback and (console.quiet or console.json):
        print(f"prunec: {result.fallback}", file=sys.stderr)
    console.result(result.to_dict, _blocks(result))
    return 0 if all(ratio.faster for ratio in result.ratios) else NOT_FASTER


def _blocks(result: BenchResult) -> list[Block]:
    ratios = {ratio.path: ratio for ratio in result.ratios}
    rows = []
    for timing in result.models:
        ratio = ratios.get(timing.path)
        speed = "" if ratio is None else f"{ratio.ratio:.3f} x"
        interval = "" if ratio is None else f"{ratio.low:.3f} to {ratio.high:.3f}"
        if ratio is not None and not ratio.faster:
            interval += " (not faster)"
        row = [
            timing.path,
            quantity("bytes", timing.bytes),
            duration(timing.median_s),
            duration(timing.fastest_s),
            speed,
            interval,
        ]
        if timing.allocated is not None:
            row.append(quantity("memory", timing.allocated))
        rows.append(row)
    header: tuple[str, ...] = _HEADER
    if any(timing.allocated is not None for timing in result.models):
        header = (*header, "allocated")
    threads = "threads chosen by onnxruntime" if not result.threads else f"{result.threads} thread"
    plural = "s" if result.threads > 1 else ""
    blocks: list[Block] = [
        Table(header, rows, frozenset({"size", "median", "fastest", "speed-up", "allocated"})),
        f"ran on {result.provider}, {threads}{plural}, {result.rounds} interleaved rounds",
    ]
    if result.fallback:
        blocks.append(result.fallback)
    return blocks

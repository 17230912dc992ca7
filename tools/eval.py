"""``prunec eval MODEL... --data labelled``: accuracy side by side, or a metric of the user's."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunec.compiler.errors import UsageError
from prunec.tools.metric_words import metric_change, metric_label, metric_value
from prunec.tools.options import DATA, METRIC, RUNNING, SAYING, Option, whole
from prunec.tools.parsing import complete_files
from prunec.tools.render import Block, Console, Table
from prunec.tools.settings import data_of, metrics_of

if TYPE_CHECKING:
    from prunec.runtime.evaluate import Evaluation

OPTIONS = {
    "data": (
        *DATA,
        METRIC,
        Option("batch", "samples at once, for symbolic first dimensions", whole(1), "N"),
    ),
    "measurement": RUNNING,
    "output": SAYING,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    complete_files(
        parser.add_argument(
            "models", metavar="MODEL", nargs="+", help="ONNX files; compared with the first"
        )
    )


def run(space: argparse.Namespace, console: Console) -> int:
    """Print the values; 0 or an exception."""
    data = data_of(space)
    if data is None:
        raise UsageError("--data is required: a file, a folder or module:function with the labels")
    metrics = metrics_of(space.metric)
    found: list[tuple[str, Evaluation]] = []
    with console.progress() as progress:
        from prunec.runtime.evaluate import evaluate

        for model in space.models:
            progress(f"measuring {model}")
            evaluation = evaluate(
                Path(model),
                data,
                metrics,
                provider=space.provider,
                threads=space.threads,
                batch=space.batch,
            )
            found.append((model, evaluation))
    if found[0][1].fallback and (console.quiet or console.json):
        print(f"prunec: {found[0][1].fallback}", file=sys.stderr)
    console.result(lambda: _document(found), _blocks(found))
    return 0


def _document(found: list[tuple[str, Evaluation]]) -> dict[str, Any]:
    first = found[0][1]
    return {
        "provider": first.provider,
        "models": [{"path": path, **e.accuracy.to_dict()} for path, e in found],
    }


def _blocks(found: list[tuple[str, Evaluation]]) -> list[Block]:
    first = found[0][1]
    header, rows = ["model"], [[path] for path, _ in found]
    for k, (name, before) in enumerate(first.accuracy.values):
        columns = [metric_label(name)] + (["change"] if len(found) > 1 else [])
        header += columns
        for row, (_, evaluation) in zip(rows, found, strict=True):
            value = evaluation.accuracy.values[k][1]
            row.append(metric_value(name, value))
            if len(found) > 1:
                row.append("" if row is rows[0] else metric_change(name, before, value))
    samples = first.accuracy.samples
    numeric = frozenset(header[1:])
    blocks: list[Block] = [Table(tuple(header), rows, numeric)]
    blocks.append(f"on {samples} sample{'s' * (samples != 1)}, ran on {first.provider}")
    if first.fallback:
        blocks.append(first.fallback)
    return blocks

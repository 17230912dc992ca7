"""``python -m prunec.tools.demo [FOLDER]``: the main job on the digits, in plain words."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunec.tools.cli import main as prunec
from prunec.tools.demo import DIGITS, IMAGES
from prunec.tools.render import duration, quantity

BEFORE = """\
A small residual network reads handwritten digits (8 x 8 pixels). It was trained so that channels
which the task does not need end near zero: BatchNorm scales with an L1 penalty. prunec now
removes channels until at most 46 % of its multiply-accumulates are left, in multiples of 8,
those with the smallest BatchNorm scales first:
"""
AFTER = """\
The weights that stayed are the trained ones; nothing was retrained. Do not expect so small a drop
in general: this network was trained to be pruned, and penalty, criterion and alignment were chosen
with these images in view. The same command without --json prints this as tables.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Prune the digits network into a folder (default: the current one); returns the exit code."""
    folder = Path(*(sys.argv[1:] if argv is None else argv)[:1])
    output = folder / "digits.pruned.onnx"
    lines = [
        [_shortest(DIGITS), "--budget", "flops=0.46", "--score", "bn_scale", "--align", "8"],
        ["--eval-data", _shortest(IMAGES), "--bench"],
        ["--output", str(output), "--json"],
    ]
    print(BEFORE)
    print("$ prunec", " \\\n    ".join(map(shlex.join, lines)), end="\n\n", flush=True)
    with contextlib.redirect_stdout(io.StringIO()) as captured:
        code = prunec([word for line in lines for word in line])
    if code == 0:
        print("\n".join(in_words(json.loads(captured.getvalue()))))
        print(f"\n{AFTER}")
    return code


def in_words(report: Mapping[str, Any]) -> list[str]:
    """The report of ``prunec --json`` as sentences."""
    flops, size, accuracy = report["costs"]["flops"], report["file_bytes"], report["accuracy"]
    dense, pruned = report["bench"]["models"]
    ratio, checks = report["bench"]["ratios"][0], report["verification"]["checks"]
    return [
        f"channels   {report['channels_removed']} of {report['channels']} removed",
        f"work       {quantity('flops', flops['dense'])} -> {quantity('flops', flops['pruned'])} "
        f"multiply-accumulates an image: {flops['ratio']:.1%}",
        f"file       {quantity('bytes', size['dense'])} -> {quantity('bytes', size['pruned'])}",
        f"accuracy   {_right(accuracy['dense'])} -> {_right(accuracy['pruned'])} "
        f"of {accuracy['dense']['samples']} images that training never saw",
        f"latency    {duration(dense['median_s'])} -> {duration(pruned['median_s'])} an image on "
        f"one thread: {ratio['ratio']:.2f} x as fast "
        f"(95 % interval {ratio['low']:.2f} to {ratio['high']:.2f})",
        f"proof      {sum(c['passed'] for c in checks.values())} of {len(checks)} checks passed; "
        "with the removed channels",
        "           set to zero, the dense network gives the same outputs",
        f"written    {report['output']}, {report['plan']}",
    ]


def _right(accuracy: Mapping[str, Any]) -> str:
    return f"{accuracy['top1']:.1%} ({round(accuracy['top1'] * accuracy['samples'])} right)"


def _shortest(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


if __name__ == "__main__":
    sys.exit(main())

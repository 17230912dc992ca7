"""Quantisation-aware training of a pruned network: figure 4 of the issue, w4a4.

    python tools/bench/quantised_training.py [MODEL] [--data FOLDER] [--budget 0.46] [--epochs 3]
        [--rate 0.05] [--recipe 'w4a4{ranges=mse}'] [--how '--quantize-scales running'] [--float]
        [--keep FOLDER] [--table out.md]

MODEL: a CIFAR-10 classifier as ONNX, by default ../shared/models/resnet20-cifar10.onnx; FOLDER
holds load.py and the images. The model is pruned to a budget of flops with 512 unlabelled images in
closed form, then trained for so many epochs, with labels and the dense model's outputs, as its
integers will compute. Top-1 is that of the written file under onnxruntime on the 10000 test images,
which choose nothing. --float: the pruned model is trained as floats by the same trainer, too.
--keep: leave models and the trainer's state there; a killed benchmark goes on from them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pinned import CommandError
from recovery import Files, evaluated, prepared, run
from resnet20 import SHARED, macs
from verdict import Figure, markdown, report

MOST_LOST = 3.0  # points below the float model
AIM = 84.1  # percent: 3 points below the float model of three epochs
TRAINING = "--optimizer sgd --temperature 4 --precision bfloat16 --threads 1 --validation 0"


@dataclass(frozen=True, slots=True)
class Row:
    """A model: top-1 in percent under onnxruntime, bytes of its file, seconds that it took."""

    name: str
    top1: float
    size: int
    seconds: float | None = None


def main() -> int:
    """Prune, train, evaluate, print the rows with their bars."""
    a = _arguments()
    if not a.model.is_file() or not (a.data / "load.py").is_file():
        print(f"SKIPPED: {a.model} or {a.data}/load.py does not exist; give their paths")
        return 0
    with tempfile.TemporaryDirectory(prefix="prunec-") as scratch:
        files = prepared(Path(a.keep or scratch), a.data)
        rows = [row("dense", a.model, files)]
        pruned, seconds = pruned_model(a, files)
        rows.append(row("pruned, closed form", pruned, files, seconds))
        if a.float:
            floats, seconds = trained(a, files, pruned, "")
            rows.append(row(f"float, {a.epochs} epochs", floats, files, seconds))
        plain = files.folder / "posttraining.onnx"
        try:
            run("quantize", pruned, a.recipe, "--data", files.calibration, "-o", plain)
            rows.append(row(f"{a.recipe}, not trained", plain, files))
        except CommandError as error:
            print(f"SKIPPED quantisation without training: {error}")
        done, seconds = trained(a, files, pruned, a.recipe)
        rows.append(row(f"{a.recipe}, {a.epochs} epochs", done, files, seconds))
        print(f"MACs {macs(pruned) / macs(a.model):.4f} of the dense model's")
    if a.table:
        a.table.write_text(markdown(*table(rows)))
    return report(figures(rows, a))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, nargs="?", default=SHARED / "models" / "resnet20-cifar10.onnx"
    )
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "cifar10")
    parser.add_argument("--budget", type=float, default=0.46)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--recipe", default="w4a4{ranges=mse}")
    parser.add_argument("--how", default="", help="more options of finetune")
    parser.add_argument("--float", action="store_true", help="train the float model too")
    parser.add_argument("--keep", type=Path, help="leave models and states in this folder")
    parser.add_argument("--table", type=Path, help="write the table there as Markdown")
    return parser.parse_args()


def row(name: str, model: Path, files: Files, seconds: float | None = None) -> Row:
    """A model, evaluated."""
    found = Row(name, evaluated(model, files), model.stat().st_size, seconds)
    print(found, flush=True)
    return found


def pruned_model(a: argparse.Namespace, files: Files) -> tuple[Path, float | None]:
    """The pruned model and the seconds of its command; None where it was there."""
    out = files.folder / f"pruned-{a.budget:g}.onnx"
    if out.is_file():
        return out, None
    _, seconds = run(
        a.model, "--budget", f"flops={a.budget:g}", "--data", files.calibration, "--score",
        "reconstruction", "--recover", "least-squares{mirror=true}", "-o", out,
    )  # fmt: skip
    return out, seconds


def trained(
    a: argparse.Namespace, files: Files, start: Path, recipe: str
) -> tuple[Path, float | None]:
    """The model after training from `start`, by a recipe or as floats, and its seconds."""
    name = f"{recipe.partition('{')[0] or 'float'}.{a.epochs}"
    out, state = files.folder / f"{name}.onnx", files.folder / f"state-{name}"
    if out.is_file():
        return out, None
    found, _ = run(
        "finetune", start, "--teacher", a.model, "--data", files.train, "--epochs", a.epochs,
        "--learning-rate", a.rate, "-o", out, "--no-plot", "--checkpoint", state,
        "--checkpoint-steps", 50, *TRAINING.split(),
        *(["--quantize", recipe, *a.how.split()] if recipe else []),
    )  # fmt: skip
    return out, sum(float(epoch["seconds"]) for epoch in found["epochs"])


def figures(rows: Sequence[Row], a: argparse.Namespace) -> list[Figure]:
    """Top-1 and bytes, and what quantisation costs in points."""
    named = {row.name: row for row in rows}
    done, start = rows[-1], named["pruned, closed form"]
    found = [Figure(f"top-1, {row.name}", row.top1, "%", form=".2f") for row in rows[:-1]]
    three = a.recipe.startswith("w4a4") and a.epochs <= 3
    aim = AIM if three and a.budget == 0.46 else None
    found.append(Figure(f"top-1, {done.name}", done.top1, "%", aim, form=".2f"))
    for row in rows[1:-1]:
        if row is start or row.name.startswith("float"):
            lost = row.top1 - done.top1
            found.append(
                Figure(f"points below {row.name}", lost, "pp", most=MOST_LOST, form="+.2f")
            )
    found.append(Figure("file, of the pruned float one", done.size / start.size, "x"))
    if done.seconds is not None:
        found.append(Figure("training", done.seconds, "s", form=".0f"))
    return found


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and rows."""
    body = [[row.name, f"{row.top1:.2f} %", f"{row.size / 1e3:.0f} kB"] for row in rows]
    return ["model", "top-1", "file"], body


if __name__ == "__main__":
    sys.exit(main())

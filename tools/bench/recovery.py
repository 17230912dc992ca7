"""Accuracy back after pruning: closed form, then distillation, beside Torch-Pruning.

    python tools/bench/recovery.py [MODEL] [--net resnet20] [--data FOLDER] [--budgets 0.7,0.46]
        [--epochs 1,3] [--rates 0.02,0.05] [--python PATH] [--peer-only | --no-peer] [--peers 2]
        [--keep FOLDER] [--table out.md]

MODEL: a CIFAR-10 classifier as ONNX, by default ../shared/models/resnet20-cifar10.onnx; of another
one --net says which module of cifar_nets.py it is, for the peer. FOLDER holds load.py and the
images. For each budget of flops, prunec: 512 unlabelled train images and no gradient, timed on one
core; then one epoch of label-free distillation over the train images; then, from the closed form
again, three epochs with labels and distillation. Top-1 is on the 10000 test images, which choose
nothing here. Torch-Pruning prunes the same network to at most the same MACs by each of its
criteria, its norms are re-estimated on the same 512 images, and the two (--peers) that are then
best on the test images are trained by the same trainer with labels for one epoch, the better of
them for three: its best results are shown. PATH: an interpreter with torch and torch-pruning.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pinned import CommandError, pinned
from resnet20 import SHARED, _module, macs
from verdict import Figure, markdown, report

CALIBRATION = 512
# Per budget: closed form, then after so many epochs of training; of ResNet-20 alone.
BARS = {(0.7, 0): 87.0, (0.46, 0): 82.5, (0.7, 1): 88.0, (0.46, 1): 85.5, (0.7, 3): 88.3,
        (0.46, 3): 87.0}  # fmt: skip
LONGEST_S = 180
# The learning rates grow with the epochs: one epoch at the rate of three loses what was recovered.
TRAINING = "--optimizer sgd --temperature 4 --precision bfloat16 --threads 1"


@dataclass(frozen=True, slots=True)
class Cell:
    """Top-1 in percent of one system at one budget after some epochs. note: how."""

    system: str
    budget: float
    epochs: int
    top1: float
    note: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Files:
    """Where the data lies as prunec reads it."""

    folder: Path
    calibration: Path
    train: Path
    test: Path


def main() -> int:
    """Fill the table, print it with its bars."""
    a = _arguments()
    if not a.model.is_file() or not (a.data / "load.py").is_file():
        print(f"SKIPPED: {a.model} or {a.data}/load.py does not exist; give their paths")
        return 0
    with tempfile.TemporaryDirectory(prefix="prunec-") as scratch:
        files = prepared(Path(a.keep or scratch), a.data)
        dense = evaluated(a.model, files)
        print(f"dense: {dense:.2f} %", flush=True)
        cells: list[Cell] = []
        for budget in a.budgets:
            if not a.peer_only:
                cells += ours(a, files, budget)
            if not a.no_peer:
                cells += peers(a, files, budget)
    if a.table:
        a.table.write_text(markdown(*table(cells, dense)))
    return report(figures(cells, dense, a.net == "resnet20"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, nargs="?", default=SHARED / "models" / "resnet20-cifar10.onnx"
    )
    parser.add_argument("--net", default="resnet20", help="module of cifar_nets.py, for the peer")
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "cifar10")
    parser.add_argument("--budgets", type=_list(float), default=[0.7, 0.46])
    parser.add_argument("--epochs", type=_list(int), default=[1, 3])
    parser.add_argument("--python", default=sys.executable, help="interpreter of the peer")
    parser.add_argument("--score", default="reconstruction")
    parser.add_argument("--recover", default="least-squares{mirror=true}")
    parser.add_argument("--schedule", default="one-shot")
    parser.add_argument("--rates", type=_list(float), default=[0.02, 0.05], help="as --epochs")
    parser.add_argument("--training", default=TRAINING, help="options of finetune, for both")
    parser.add_argument("--peers", type=int, default=2, help="forms of the peer that are trained")
    parser.add_argument("--peer-only", action="store_true")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--keep", type=Path, help="leave models and data in this folder")
    parser.add_argument("--table", type=Path, help="write the table there as Markdown")
    return parser.parse_args()


def _list(kind: type[Any]) -> Any:
    return lambda text: [kind(part) for part in text.split(",")]


def prepared(folder: Path, data: Path) -> Files:
    """The images, normalised, as .npz files: 512 train images without labels, all, the test set."""
    folder.mkdir(parents=True, exist_ok=True)
    cifar10 = _module(data / "load.py")
    files = Files(folder, *(folder / f"{x}.npz" for x in ("calibration", "train", "test")))
    for path, split in ((files.train, "train"), (files.test, "test")):
        if not path.is_file():
            images, labels = cifar10.load(split)
            np.savez(path, image=cifar10.preprocess(images), label=labels)
    if not files.calibration.is_file():
        images, _ = cifar10.load("train", CALIBRATION, 0)
        np.savez(files.calibration, image=cifar10.preprocess(images))
    return files


def run(*words: object) -> tuple[dict[str, Any], float]:
    """What a prunec command says in JSON, and its seconds on one core."""
    used = pinned([sys.executable, "-m", "prunec", *map(str, words), "--json"])
    return json.loads(used.stdout), used.seconds


def evaluated(model: Path, files: Files) -> float:
    """Top-1 on the test images, in percent."""
    found, _ = run("eval", model, "--data", files.test)
    return 100 * float(found["models"][0]["top1"])


def trained(a: argparse.Namespace, files: Files, start: Path, epochs: int, *how: str) -> float:
    """Top-1 after so many epochs from `start`."""
    out = start.with_name(f"{start.stem}.{epochs}.onnx")
    run("finetune", start, "--data", files.train, "--epochs", epochs, "--validation", 0,
        "--learning-rate", dict(zip(a.epochs, a.rates, strict=True))[epochs], "-o", out,
        *a.training.split(), *how)  # fmt: skip
    return evaluated(out, files)


def ours(a: argparse.Namespace, files: Files, budget: float) -> list[Cell]:
    """prunec's cells at one budget."""
    out = files.folder / f"prunec-{a.net}-{budget}.onnx"
    _, seconds = run(
        a.model, "--budget", f"flops={budget}", "--align", 1, "--data", files.calibration,
        "--score", a.score, "--recover", a.recover, "--schedule", a.schedule, "-o", out,
    )  # fmt: skip
    share = macs(out) / macs(a.model)
    cells = [Cell("prunec", budget, 0, evaluated(out, files), f"MACs {share:.4f}", seconds)]
    print(cells[-1], flush=True)
    for epochs in a.epochs:
        labels = ["--labels", "none"] if epochs == 1 else []
        top1 = trained(a, files, out, epochs, "--teacher", str(a.model), *labels)
        how = "distillation, no labels" if labels else "labels and distillation"
        cells.append(Cell("prunec", budget, epochs, top1, how))
        print(cells[-1], flush=True)
    return cells


def peers(a: argparse.Namespace, files: Files, budget: float) -> list[Cell]:
    """Torch-Pruning's cells at one budget: the best of its criteria."""
    script = Path(__file__).with_name("torch_pruning_cifar.py")
    words = (a.net, a.model, a.data, budget, files.folder)
    try:
        found = json.loads(pinned([a.python, str(script), *map(str, words)]).stdout)
    except CommandError as error:
        print(f"SKIPPED Torch-Pruning: {error}")
        return []
    print(f"Torch-Pruning {found['version']}", flush=True)
    ranked: list[tuple[float, str, Path]] = []
    for name, path in found["files"].items():
        ranked.append((evaluated(Path(path), files), name, Path(path)))
        print(f"  {name}: {ranked[-1][0]:.2f} %, MACs {found['macs'][name]:.4f}", flush=True)
    ranked.sort(reverse=True)
    cells = [Cell("Torch-Pruning", budget, 0, ranked[0][0], f"{ranked[0][1]}, norms re-estimated")]
    left = [(name, path) for _, name, path in ranked[: a.peers]]
    for epochs in a.epochs:
        tops = sorted(
            ((trained(a, files, path, epochs), name) for name, path in left), reverse=True
        )
        print(f"  {epochs} epochs: {tops}", flush=True)
        cells.append(Cell("Torch-Pruning", budget, epochs, *tops[0]))
        left = [(name, path) for name, path in left if name == tops[0][1]]
    return cells


def figures(cells: Sequence[Cell], dense: float, barred: bool) -> list[Figure]:
    """Against the bars (of ResNet-20), and prunec against the peer in each cell."""
    rows = [Figure("top-1, dense", dense, "%", form=".2f")]
    peer = {(c.budget, c.epochs): c for c in cells if c.system != "prunec"}
    for c in cells:
        if c.system != "prunec":
            continue
        place = (c.budget, c.epochs)
        name = f"flops={c.budget:g}, {c.epochs} epochs"
        least = BARS.get(place) if barred else None
        rows.append(Figure(f"{name}: prunec", c.top1, "%", least, form=".2f", note=c.note))
        if c.seconds is not None:
            rows.append(
                Figure(f"{name}: whole command", c.seconds, "s", most=LONGEST_S, form=".0f")
            )
        if place in peer:
            other = peer[place]
            note = f"Torch-Pruning {other.top1:.2f} % ({other.note})"
            rows.append(
                Figure(f"{name}: ahead by", c.top1 - other.top1, "pp", 0.0, form="+.2f", note=note)
            )
    return rows


def table(cells: Sequence[Cell], dense: float) -> tuple[list[str], list[list[str]]]:
    """Header and rows: systems by budgets and epochs."""
    places = sorted({(c.budget, c.epochs) for c in cells}, key=lambda p: (-p[0], p[1]))
    header = [f"dense {dense:.2f} %", *(f"flops={b:g}, {e} epochs" for b, e in places)]
    rows = []
    for system in dict.fromkeys(c.system for c in cells):
        own = {(c.budget, c.epochs): c for c in cells if c.system == system}
        rows.append([system, *(f"{own[p].top1:.2f} %" if p in own else "-" for p in places)])
    return header, rows


if __name__ == "__main__":
    sys.exit(main())

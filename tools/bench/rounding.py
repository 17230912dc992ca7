"""What rounding by calibration data wins: output error of layers and top-1, ResNet-20 on CIFAR-10.

    python tools/bench/rounding.py [MODEL] [--data FOLDER] [--recipes weights=int4,w4a8,...]
        [--ways nearest,gptq] [--samples 512] [--test 10000] [--table out.md] [--grids] [--large]

MODEL: a CIFAR-10 classifier as ONNX, by default ../shared/models/resnet20-cifar10.onnx. FOLDER
holds load.py and the images. Each recipe is carried out with nearest integers, the same with the
biases corrected, and with second-order rounding with and without corrected biases; ranges have the
least squared error. The calibration images are train images, the test images choose nothing. Error
of a layer: squared error of its outputs over their square about the mean, with the inputs of the
quantised model, for nearest integers and for those that were chosen; the table has the mean over
layers. --grids: the rounding error of the weights themselves by quantiser, relative to their
square, without and with the search of the range. --large: how long a layer of 2048 outputs and 4608
inputs takes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pinned import ONE_THREAD
from resnet20 import SHARED, _module
from verdict import Figure, markdown, report

if TYPE_CHECKING:
    import onnx_ir as ir

    from prunec.runtime.data import DataSpec

RECIPES = ("weights=int8", "weights=int4", "weights=int3", "w8a8", "w4a8", "w4a4")
WAYS = {
    "nearest": "rounding=nearest,correction=false",
    "nearest+biases": "rounding=nearest,correction=true",
    "gptq": "rounding=gptq,correction=false",
    "gptq+biases": "rounding=gptq,correction=true",
}
HEADER = ("recipe", "rounding", "top-1", "lost", "layers, nearest", "layers, chosen", "s")
BATCH = 500


def main() -> int:
    """Quantise, evaluate, print the table."""
    a = _arguments()
    figures = []
    if a.large:
        figures.append(Figure("2048 x 4608, gptq, one core", large(), "s", most=120, form=".0f"))
    for needed in (a.model, a.data / "load.py"):
        if not needed.is_file():
            print(f"SKIPPED: {needed} does not exist; give its path")
            return report(figures) if figures else 0
    from prunec.runtime.data import DataSpec
    from prunec.runtime.subject import open_model

    if a.grids:
        print(markdown(*grids(a.model)))
    cifar10 = _module(a.data / "load.py")
    images, labels = cifar10.load("test", a.test, 0)
    test = cifar10.preprocess(images), labels
    model = open_model(a.model).model
    dense = top1(model, *test)
    print(f"float: {dense:.2f} %", flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="prunec-") as folder:
        path = Path(folder) / "calibration.npz"
        np.savez(path, image=cifar10.preprocess(cifar10.load("train", a.samples, 0)[0]))
        for recipe in a.recipes:
            for way, options in ((w, WAYS[w]) for w in a.ways):
                row = measured(
                    model, f"{recipe}{{ranges=mse,{options}}}", DataSpec(str(path)), test
                )
                shown = (f"{row[0]:.2f} %", f"{dense - row[0]:+.2f}", *row[1:])
                rows.append([recipe, way, *shown])
                print(" | ".join(rows[-1]), flush=True)
                if recipe in ("weights=int4", "w4a4") and way == "gptq":
                    name = f"top-1 lost, {recipe}, {way}"
                    figures.append(Figure(name, dense - row[0], "pp", form="+.2f"))
    if a.table:
        a.table.write_text(markdown(HEADER, rows))
    return report(figures or [Figure("top-1, float", dense, "%", form=".2f")])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, nargs="?", default=SHARED / "models" / "resnet20-cifar10.onnx"
    )
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "cifar10")
    parser.add_argument("--recipes", type=lambda text: text.split(","), default=list(RECIPES))
    parser.add_argument("--samples", type=int, default=512, help="train images to calibrate with")
    parser.add_argument("--test", type=int, default=10000, help="test images")
    parser.add_argument("--table", type=Path, help="write the table there as Markdown")
    parser.add_argument("--ways", type=lambda text: text.split(","), default=list(WAYS))
    parser.add_argument("--grids", action="store_true", help="errors of weights by quantiser too")
    parser.add_argument("--large", action="store_true", help="time a large layer too")
    return parser.parse_args()


def measured(
    model: ir.Model, text: str, data: DataSpec, test: tuple[np.ndarray, np.ndarray]
) -> tuple[float, str, str, str]:
    """Top-1 in percent; mean error of layers with nearest and with chosen integers; seconds."""
    from prunec.passes.quantize.recipe import parse_recipe
    from prunec.runtime.quantize.quantise import Conditions, quantise

    started = time.monotonic()
    made = quantise(model, parse_recipe(text), Conditions(data=data))
    seconds = time.monotonic() - started
    errors = np.array([(e.nearest, e.chosen) for e in made.errors]).reshape(-1, 2)
    shown = [f"{x:.2e}" for x in errors.mean(axis=0)] if len(errors) else ["-", "-"]
    return top1(made.model, *test), shown[0], shown[1], f"{seconds:.0f}"


def top1(model: ir.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """Percent of the images that onnxruntime gets right with the model."""
    from prunec.runtime.session import make_session

    session = make_session(model)
    right = 0
    for first in range(0, len(images), BATCH):
        part = slice(first, first + BATCH)
        (logits,) = session.run({session.inputs[0].name: images[part]})
        right += int((logits.argmax(axis=1) == labels[part]).sum())
    return 100 * right / len(images)


def grids(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows: quantisers by bits, mean over the convolutions, scales per output."""
    from prunec.passes.quantize.quantisers import QUANTISERS, Scaler
    from prunec.passes.quantize.weights import weight_grid
    from prunec.runtime.subject import open_model

    stored = open_model(path).model.graph.initializers.values()
    tensors = [value.const_value for value in stored]
    weights = [t.numpy() for t in tensors if t is not None and len(t.shape) == 4]
    ways = {name: cls() for name, cls in QUANTISERS.items()}
    ways["scaler{legacy_step=true}"] = Scaler(legacy_step=True)
    header = ["quantiser", *(f"{b} bits{s}" for b in (3, 4, 8) for s in ("", ", searched"))]
    rows = []
    for name, quantiser in ways.items():
        row = [name]
        for bits in (3, 4, 8):
            for searched in (False, True):
                errors = []
                for w in weights:
                    grid = weight_grid(w, quantiser, bits, 0, searched=searched)
                    errors.append(np.square(grid.fake(w) - w).sum() / np.square(w).sum())
                row.append(f"{np.mean(errors):.2e}")
        rows.append(row)
    return header, rows


def large(outputs: int = 2048, inputs: int = 4608) -> float:
    """Seconds for one layer, moments given."""
    from prunec.compiler.quantisation import Products
    from prunec.passes.quantize.rounding import Gptq

    rng = np.random.default_rng(0)
    rows = np.maximum(rng.standard_normal((inputs + 500, inputs)), 0)
    matrix = rng.standard_normal((1, inputs, outputs))
    scale = np.full(matrix.shape, np.abs(matrix).max() / 7)
    products = Products(
        matrix, scale, np.zeros(matrix.shape, np.int64), -8, 7, (rows.T @ rows)[None]
    )
    started = time.monotonic()
    Gptq()(products)
    return time.monotonic() - started


if __name__ == "__main__":
    # Read when numpy loads its libraries; the process is its own where it is a command.
    import os

    if not all(os.environ.get(name) == value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    sys.exit(main())

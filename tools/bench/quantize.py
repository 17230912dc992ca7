"""Quantised after pruning: ResNet-20 at flops=0.46, beside onnxruntime's quantize_static.

    python tools/bench/quantize.py [MODEL] [--data FOLDER] [--budget 0.46] [--recipes w8a8,...]
        [--keep FOLDER] [--table out.md]

MODEL: a CIFAR-10 classifier as ONNX, by default ../shared/models/resnet20-cifar10.onnx; FOLDER
holds load.py and the images. The model is pruned and recovered in closed form with 512 unlabelled
train images (`--score reconstruction --recover least-squares{mirror=true}`), then quantised with
the same images, nothing trained. Top-1 is on the 10000 test images. Latency is one thread of
onnxruntime, batch 1, against the float pruned model; kernels are those of its optimised graph.
quantize_static: QDQ, per channel, min-max, the same images, preprocessed as its documentation
says. With recipes, `;` separates them, as options have commas.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from recovery import Files, evaluated, prepared, run
from resnet20 import SHARED
from verdict import Figure, markdown, report

PLAIN = "ranges=minmax,rounding=nearest,correction=false"
RECIPES = f"w8a8;w4a8;w4a8{{{PLAIN}}};w4a4;w4a4{{{PLAIN}}};weights=int4"
LARGEST_LOSS = 0.5  # points of w8a8 below float


@dataclass(frozen=True, slots=True)
class Row:
    """Top-1 in percent, bytes of the file, times as fast as float, and what runs."""

    name: str
    top1: float
    nbytes: int
    speedup: float
    kernels: str


def main() -> int:
    """Fill the table, print it with its bar."""
    a = _arguments()
    if not a.model.is_file() or not (a.data / "load.py").is_file():
        print(f"SKIPPED: {a.model} or {a.data}/load.py does not exist; give their paths")
        return 0
    with tempfile.TemporaryDirectory(prefix="prunec-") as scratch:
        files = prepared(Path(a.keep or scratch), a.data)
        slim = files.folder / f"pruned-{a.budget}.onnx"
        if not slim.is_file():
            run(
                a.model, "--budget", f"flops={a.budget}", "--align", 1,
                "--data", files.calibration, "--score", "reconstruction",
                "--recover", "least-squares{mirror=true}", "-o", slim,
            )  # fmt: skip
        top1 = evaluated(slim, files)
        rows = [Row("float, pruned", top1, slim.stat().st_size, 1.0, "")]
        print(rows[0], flush=True)
        for recipe in a.recipes.split(";"):
            rows.append(quantised(slim, recipe, files))
            print(rows[-1], flush=True)
        rows.append(static(slim, files))
        print(rows[-1], flush=True)
    if a.table:
        a.table.write_text(markdown(*table(rows)))
    return report(figures(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, nargs="?", default=SHARED / "models" / "resnet20-cifar10.onnx"
    )
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "cifar10")
    parser.add_argument("--budget", type=float, default=0.46)
    parser.add_argument("--recipes", default=RECIPES)
    parser.add_argument("--keep", type=Path, help="leave models and data in this folder")
    parser.add_argument("--table", type=Path, help="write the table there as Markdown")
    return parser.parse_args()


def quantised(slim: Path, recipe: str, files: Files) -> Row:
    """One recipe by `prunec quantize`."""
    out = files.folder / "quantised.onnx"
    found, _ = run("quantize", slim, recipe, "--data", files.calibration, "-o", out)
    return Row(
        recipe,
        evaluated(out, files),
        out.stat().st_size,
        speedup(slim, out),
        _shown(found["kernels"]),
    )


def speedup(slim: Path, out: Path) -> float:
    """Times as fast as the float model, interleaved, one thread, batch 1."""
    from prunec.runtime.bench import bench

    return bench([slim, out], threads=1, shapes={"image": (1, 3, 32, 32)}).ratios[0].ratio


def static(slim: Path, files: Files) -> Row:
    """The same by onnxruntime's own quantiser, on a model that it preprocessed."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from prunec.runtime.quantize.kernels import kernels

    images = np.load(files.calibration)["image"]

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # it has no types
        """The calibration images in batches of 32."""

        def __init__(self) -> None:
            parts = [images[k : k + 32] for k in range(0, len(images), 32)]
            self.batches = iter([{"image": part} for part in parts])

        def get_next(self) -> Any:
            """The next batch, or None."""
            return next(self.batches, None)

    ready, out = files.folder / "preprocessed.onnx", files.folder / "static.onnx"
    quant_pre_process(str(slim), str(ready))
    quantization.quantize_static(
        str(ready), str(out), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QUInt8,  # by default int8: no kernel of Conv here
    )  # fmt: skip
    text = _shown(kernels(out).to_dict())
    size = out.stat().st_size
    return Row("quantize_static", evaluated(out, files), size, speedup(slim, out), text)


def _shown(kernels: dict[str, Any]) -> str:
    integer = ", ".join(f"{n} {op}" for op, n in kernels["integer"].items()) or "none"
    return f"{integer}; {kernels['conversions']} Q and DQ left"


def figures(rows: list[Row]) -> list[Figure]:
    """Against float; w8a8 has a bar."""
    first = rows[0]
    found = [Figure("float, pruned: top-1", first.top1, "%", form=".2f")]
    for row in rows[1:]:
        least = -LARGEST_LOSS if row.name == "w8a8" else None
        found.append(
            Figure(
                f"{row.name}: top-1 against float", row.top1 - first.top1, "pp", least, form="+.2f",
                note=f"{row.top1:.2f} %, {row.nbytes} bytes, {row.speedup:.2f} x; {row.kernels}",
            )
        )  # fmt: skip
    return found


def table(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and rows."""
    header = ["recipe", "top-1", "bytes", "times as fast", "kernels"]
    return header, [
        [r.name, f"{r.top1:.2f} %", str(r.nbytes), f"{r.speedup:.2f}", r.kernels] for r in rows
    ]


if __name__ == "__main__":
    sys.exit(main())

"""Figure 1: ResNet-20 on CIFAR-10 to 46 % of its MACs: budget used, gap, time and top-1.

    python tools/bench/resnet20.py [MODEL] [--data FOLDER] [--repeats 3]

MODEL: by default ../shared/models/resnet20-cifar10.onnx beside the repository. FOLDER holds
load.py and the images. The whole command runs in a process on one core; time is its median.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from pinned import pinned
from verdict import Figure, report

SHARED = Path(__file__).resolve().parents[3] / "shared"
BATCH = 500


def main() -> int:
    """Prune, time, recount and run both models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, nargs="?", default=SHARED / "models" / "resnet20-cifar10.onnx"
    )
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "cifar10")
    parser.add_argument("--repeats", type=int, default=3)
    a = parser.parse_args()
    if not a.model.is_file():
        print(f"SKIPPED: {a.model} does not exist; give the path of the model")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        pruned = Path(folder) / "pruned.onnx"
        command = [sys.executable, "-m", "prunec", str(a.model), "--budget", "flops=0.46"]
        command += ["--align", "1", "--output", str(pruned), "--json"]
        runs = [pinned(command) for _ in range(a.repeats)]
        gap = json.loads(runs[0].stdout)["gap"]
        costs = [macs(path) for path in (a.model, pruned)]
        tops = [top1(path, a.data) for path in (a.model, pruned)]
    walls = ", ".join(f"{run.seconds:.2f}" for run in runs)
    cpu = statistics.median(run.cpu for run in runs)
    return report(
        [
            Figure("MACs, pruned / dense", costs[1] / costs[0], "", 0.455, 0.46, ".5f"),
            Figure("gap", None if gap is None else 100 * gap, "%", most=0.1, form=".4f"),
            Figure(
                "whole command, one core",
                statistics.median(run.seconds for run in runs),
                "s",
                most=6,
                note=f"wall {walls}; CPU {cpu:.2f} s",
            ),
            Figure("top-1, dense", tops[0], "%", form=".2f"),
            Figure("top-1, pruned, no recovery", tops[1], "%", form=".2f"),
        ]
    )


def macs(path: Path) -> int:
    """Multiply-accumulates, counted on the file."""
    from prunec.runtime.subject import open_model

    graph = open_model(path).graph
    return graph.costs["flops"](graph.dense())


def top1(path: Path, data: Path) -> float | None:
    """Percent of the test images that the model gets right, or None without the images."""
    if not (data / "load.py").is_file():
        print(f"SKIPPED accuracy: {data}/load.py does not exist; give the folder with --data")
        return None
    import onnxruntime

    cifar10 = _module(data / "load.py")
    images, labels = cifar10.load("test")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    right = 0
    for first in range(0, len(images), BATCH):
        part = slice(first, first + BATCH)
        (logits,) = session.run(None, {name: cifar10.preprocess(images[part])})
        right += int((logits.argmax(axis=1) == labels[part]).sum())
    return 100 * right / len(images)


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("cifar10_load", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())

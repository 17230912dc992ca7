"""Top-1 after pruning, by criterion and budget, without any recovery.

    python tools/bench/criteria.py [--model ../shared/models/resnet20-cifar10.onnx]
        [--data ../shared/data/cifar10] [--images 2000] [--calibration 512]

Scores decide accuracy: this table is the reason for the defaults. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

from prunec.compiler.spec import parse
from prunec.passes.criteria import CRITERIA
from prunec.passes.options import Options
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime.accuracy import accuracy
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.data import DataSpec, load_data
from prunec.runtime.inputs import model_inputs
from prunec.runtime.subject import open_model

SHARED = Path(__file__).resolve().parents[3] / "shared"
BUDGETS = ("flops=0.85", "flops=0.7", "flops=0.46")
SPECS = (
    "magnitude",
    "magnitude{p=1}",
    "magnitude{normalise=tensor}",
    "bn_scale",
    "random",
    "activation",
    "activation{statistic=nonzero}",
)


def main() -> int:
    """Print the table; exit 0, or 0 with a reason where the data is absent."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=SHARED / "models/resnet20-cifar10.onnx")
    parser.add_argument("--data", type=Path, default=SHARED / "data/cifar10")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--calibration", type=int, default=512)
    arguments = parser.parse_args()
    if not arguments.model.exists() or not (arguments.data / "load.py").exists():
        print(f"skipped: {arguments.model} or {arguments.data} is absent")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        _table(arguments, Path(folder))
    return 0


def _table(arguments: argparse.Namespace, folder: Path) -> None:
    cifar = _loader(arguments.data / "load.py")
    for split, count in (("test", arguments.images), ("train", arguments.calibration)):
        images, labels = cifar.load(split, count)
        np.savez(folder / f"{split}.npz", image=cifar.preprocess(images), labels=labels)
    subject = open_model(arguments.model)
    test = load_data(DataSpec(str(folder / "test.npz"), batch=250), model_inputs(subject.model))
    settings = Settings(data=DataSpec(str(folder / "train.npz")))
    print(f"dense top-1 {accuracy(subject.model, test).top1:.3f}")
    print(f"{'criterion':34}" + "".join(f"{budget:>12}" for budget in BUDGETS))
    for spec in SPECS:
        options = Options(criterion=parse(spec, CRITERIA, "criterion"), solver=Greedy(), align=1)
        row = []
        for budget in BUDGETS:
            plan = plan_for(subject, budget, options, settings)
            row.append(accuracy(apply_plan(subject, plan), test).top1)
        print(f"{spec:34}" + "".join(f"{top1:12.3f}" for top1 in row), flush=True)


def _loader(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("cifar10", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())

"""Gates against `fisher` after equal training time: the cost that gates reach, top-1 of both.

    python tools/bench/gates.py [--budget flops=0.46] [--train 10000] [--gate-steps 100]
        [--steps 200] [--batch 64] [--seeds 1] [--by 'gate{ramp=1.0}'] [--by 'masks']

Both start from the dense model and learn from the same images, labels and the dense model's
outputs, one thread each. Gates: `--gate-steps` on the gated dense model, the solver, `--steps` on
the pruned one. fisher: the scores, the solver, then on the pruned model as many steps as take the
same CPU seconds in all (not the wall clock: other processes may run). MODEL and images: by default
in ../shared beside the repository.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pinned import ONE_THREAD

if TYPE_CHECKING:
    import onnx_ir as ir

    from prunec.runtime.subject import Subject

SHARED = Path(__file__).resolve().parents[3] / "shared"
CALIBRATION = 512
TRIAL = 8  # steps that say how long one takes on the model that fisher leaves


@dataclass(frozen=True, slots=True)
class Bed:
    """What both arms share."""

    subject: Subject
    train: Path
    test: Path
    arguments: argparse.Namespace


def main() -> int:
    """Print a table; exit 0, or 0 with a reason where the data is absent."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=SHARED / "models/resnet20-cifar10.onnx")
    parser.add_argument("--data", type=Path, default=SHARED / "data/cifar10")
    parser.add_argument("--budget", default="flops=0.46")
    parser.add_argument("--by", action="append", help="gates or masks (default: gate{ramp=1.0})")
    parser.add_argument("--train", type=int, default=10000)
    parser.add_argument("--test", type=int, default=10000)
    parser.add_argument("--gate-steps", type=int, default=100)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--augment", default="flip,crop{padding=2}")
    parser.add_argument("--seeds", type=int, default=1)
    a = parser.parse_args()
    if not a.model.exists() or not (a.data / "load.py").exists():
        print(f"skipped: {a.model} or {a.data} is absent")
        return 0
    os.environ.update(ONE_THREAD)
    with tempfile.TemporaryDirectory() as folder:
        _table(a, Path(folder))
    return 0


def _table(a: argparse.Namespace, folder: Path) -> None:
    from prunec.runtime.subject import open_model

    subject = open_model(a.model)
    bed = Bed(subject, folder / "train.npz", folder / "test.npz", a)
    _images(bed)
    print(f"dense top-1 {_top1(bed, subject.model):.4f}", flush=True)
    print(f"{'seed':4}  {'way':34}  {'reached':>8}  {'before':>7}  {'top-1':>7}  steps  CPU s")
    for seed in range(a.seeds):
        longest = 0.0
        for spec in a.by or ["gate{ramp=1.0}"]:
            longest = max(longest, _trained(bed, spec, seed))
        _fisher(bed, seed, longest)


def _trained(bed: Bed, spec: str, seed: int) -> float:
    """Gates or masks, then the pruned model; returns CPU seconds."""
    from prunec.compiler.spec import parse
    from prunec.passes.trained import TRAINED
    from prunec.runtime.compile import Settings
    from prunec.runtime.data import DataSpec
    from prunec.runtime.gates.train import Lesson, train

    a, began = bed.arguments, time.process_time()
    lesson = Lesson(
        by=parse(spec, TRAINED, "by"),
        budget=a.budget,
        recipe=_recipe(a),
        # The rate does not fall: training goes on with the pruned model.
        training=_settings(a, a.gate_steps, seed, "constant"),
        settings=Settings(data=DataSpec(str(bed.train)), verify=False),
    )
    found = train(bed.subject, lesson)
    assert found.result is not None
    pruned = time.process_time() - began
    before = _top1(bed, found.result.model)
    seconds, model = _tuned(bed, found.result.model, a.steps, seed)
    (about,) = found.record.values()
    reached = max(about["reached"].values())
    _row(seed, spec, f"{reached:.2%}", before, _top1(bed, model), a.steps, pruned + seconds)
    return pruned + seconds


def _fisher(bed: Bed, seed: int, allowed: float) -> None:
    """fisher, and training in the CPU seconds that are allowed."""
    from prunec.passes.criteria.fisher import Fisher
    from prunec.passes.options import Options
    from prunec.runtime.compile import Settings, apply_plan, plan_for
    from prunec.runtime.data import DataSpec

    a, began = bed.arguments, time.process_time()
    settings = Settings(data=DataSpec(str(bed.train), limit=CALIBRATION))
    options = Options(criterion=Fisher(seed=seed))
    pruned = apply_plan(bed.subject, plan_for(bed.subject, a.budget, options, settings))
    spent = time.process_time() - began
    trial, _ = _tuned(bed, pruned, TRIAL, seed)
    steps = int((allowed - spent) / (trial / TRIAL))
    before = _top1(bed, pruned)
    seconds, model = _tuned(bed, pruned, steps, seed)
    _row(seed, "fisher", "-", before, _top1(bed, model), steps, spent + seconds)


def _tuned(bed: Bed, model: ir.Model, steps: int, seed: int) -> tuple[float, ir.Model]:
    """CPU seconds of the training, and the trained model."""
    from prunec.runtime.data import DataSpec
    from prunec.runtime.training.finetune import Work, finetune

    began = time.process_time()
    work = Work(model, DataSpec(str(bed.train)), bed.subject.source)
    found = finetune(work, _recipe(bed.arguments), _settings(bed.arguments, steps, seed))
    return time.process_time() - began, found.model


def _settings(a: argparse.Namespace, steps: int, seed: int, schedule: str = "cosine") -> Any:
    from prunec.runtime.training.settings import Sgd, TrainSettings

    return TrainSettings(
        steps=steps,
        batch=a.batch,
        optimizer=Sgd(),
        schedule=schedule,
        seed=seed,
        threads=1,
        device="cpu",
    )


def _recipe(a: argparse.Namespace) -> Any:
    from prunec.runtime.training.settings import Recipe

    return Recipe(alpha=a.alpha, augment=a.augment, validation=0.0)


def _row(
    seed: int, way: str, reached: str, before: float, after: float, steps: int, seconds: float
) -> None:
    print(
        f"{seed:4}  {way:34}  {reached:>8}  {before:7.4f}  {after:7.4f}  {steps:5}  {seconds:5.0f}",
        flush=True,
    )


def _top1(bed: Bed, model: ir.Model) -> float:
    from prunec.runtime.accuracy import accuracy
    from prunec.runtime.data import DataSpec, load_data
    from prunec.runtime.inputs import model_inputs

    data = load_data(DataSpec(str(bed.test), batch=250), model_inputs(bed.subject.model))
    found = accuracy(model, data).top1
    assert found is not None
    return found


def _images(bed: Bed) -> None:
    """Training images in a random order: those of the folder are sorted by class."""
    a = bed.arguments
    spec = importlib.util.spec_from_file_location("cifar10", a.data / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for split, count, path in (("train", a.train, bed.train), ("test", a.test, bed.test)):
        images, labels = module.load(split, count)
        order = np.random.default_rng(0).permutation(len(labels))
        np.savez(path, image=module.preprocess(images)[order], labels=labels[order])


if __name__ == "__main__":
    sys.exit(main())

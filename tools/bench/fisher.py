"""Per-sample Fisher scores: seconds on one core, and the same by a loop over samples.

    python tools/bench/fisher.py [MODEL] [--data FOLDER] [--samples 512] [--top1]

MODEL: by default ../shared/models/resnet20-cifar10.onnx beside the repository. FOLDER holds
load.py and the images. The peer is one backward pass per sample on the plain torch view, from the
gradients of the weights that read a channel. --top1: what the scores are good for at two budgets,
without any recovery.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pinned import ONE_THREAD
from verdict import Figure, report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunec.runtime.data import DataSpec
    from prunec.runtime.subject import Subject

SHARED = Path(__file__).resolve().parents[3] / "shared"
SPECS = (
    "magnitude", "taylor", "taylor{statistic=mean}", "fisher", "fisher{labels=self}",
    "fisher{labels=self,targets=sample}", "fisher{labels=self,targets=argmax}",
)  # fmt: skip
BUDGETS = ("flops=0.7", "flops=0.46")
TEST_IMAGES = 2000


def main() -> int:
    """Time both ways, compare their scores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, nargs="?", default=SHARED / "models" / "resnet20-cifar10.onnx"
    )
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "cifar10")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--top1", action="store_true")
    a = parser.parse_args()
    for needed in (a.model, a.data / "load.py"):
        if not needed.is_file():
            print(f"SKIPPED: {needed} does not exist")
            return 0
    _one_thread()
    from prunec.runtime.data import DataSpec
    from prunec.runtime.subject import open_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.npz"
        arrays(a.data, "train", a.samples, path)
        spec, subject = DataSpec(str(path)), open_model(a.model)
        fast, seconds, cpu = vectorised(subject, spec, a.samples)
        slow, loop_seconds = looped(subject, spec)
        if a.top1:
            arrays(a.data, "test", TEST_IMAGES, Path(folder) / "test.npz")
            table(subject, spec, DataSpec(str(Path(folder) / "test.npz"), batch=250))
    error = float(np.abs(fast - slow).max() / slow.max())
    return report(
        [
            Figure(
                f"Fisher scores, {a.samples} images", seconds, "s", most=10, note=f"CPU {cpu:.2f} s"
            ),
            Figure("a loop over samples", loop_seconds, "s"),
            Figure("times as fast", loop_seconds / seconds, "", least=1, form=".2f"),
            Figure("largest difference / largest score", error, "", most=1e-4, form=".1e"),
        ]
    )


def _one_thread() -> None:
    """This process on one core, with one thread."""
    import os

    os.environ.update(ONE_THREAD)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def arrays(folder: Path, split: str, count: int, path: Path) -> None:
    """Images and labels, drawn from a split, as prunec reads them."""
    spec = importlib.util.spec_from_file_location("cifar10", folder / "load.py")
    assert spec is not None
    assert spec.loader is not None
    cifar: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cifar)
    images, labels = cifar.load(split, count)
    np.savez(path, image=cifar.preprocess(images), labels=labels)


def vectorised(subject: Subject, spec: DataSpec, samples: int) -> tuple[NDArray[Any], float, float]:
    """Scores, seconds and CPU seconds of the criterion, building the torch view included."""
    from prunec.passes.criteria.fisher import Fisher
    from prunec.runtime.compile import Settings
    from prunec.runtime.gradients import collect

    criterion = Fisher(samples=samples)
    start, cpu = time.perf_counter(), time.process_time()
    stats = collect(subject, criterion, Settings(data=spec), lambda _: None)
    took = time.perf_counter() - start, time.process_time() - cpu
    return criterion(subject.model, subject.graph, stats), *took


def looped(subject: Subject, spec: DataSpec) -> tuple[NDArray[Any], float]:
    """The same scores from the weights' gradients of one sample after the other."""
    import torch

    from prunec.runtime.torch_view import torch_view

    stored = np.load(spec.path)
    graph, view = subject.graph, torch_view(subject.model).eval()
    weights = {name: p for name, p in view.named_parameters() if p.ndim > 1}
    axes = [(n, p, graph.axes[view.names[n], 1]) for n, p in weights.items()
            if (view.names[n], 1) in graph.axes]  # fmt: skip
    total = np.zeros(graph.number_of_groups)
    torch.set_num_threads(1)
    start = time.perf_counter()
    for image, label in zip(stored["image"], stored["labels"], strict=True):
        feeds = {view.inputs[0]: torch.as_tensor(image[None])}
        (logits,) = view(feeds).values()
        loss = torch.nn.functional.cross_entropy(logits, torch.as_tensor([label]))
        gradients = torch.autograd.grad(loss, [p for _, p, _ in axes])
        own = np.zeros(graph.number_of_groups + 1)
        for (_, p, groups), gradient in zip(axes, gradients, strict=True):
            products = (p.detach() * gradient).transpose(0, 1).flatten(1).sum(1)
            np.add.at(own, groups, products.numpy().astype(float))
        total += own[:-1] ** 2
    return total / len(stored["labels"]) / 2, time.perf_counter() - start


def table(subject: Subject, spec: DataSpec, test: DataSpec) -> None:
    """Top-1 after plain slicing, by criterion, budget and worth."""
    from prunec.compiler.spec import parse
    from prunec.passes.criteria import CRITERIA
    from prunec.passes.options import Options
    from prunec.passes.solvers.greedy import Greedy
    from prunec.passes.worth import parse_worth
    from prunec.runtime.accuracy import accuracy
    from prunec.runtime.compile import Settings, apply_plan, plan_for, silent
    from prunec.runtime.data import load_data
    from prunec.runtime.inputs import model_inputs
    from prunec.runtime.scores import compute

    data = load_data(test, model_inputs(subject.model))
    columns = [(budget, worth) for budget in BUDGETS for worth in ("sum", "share")]
    print(f"{'top-1 by budget and --worth':36}" + "".join(f"{b}, {w:6}" for b, w in columns))
    for text in SPECS:
        own: Any = parse(text, CRITERIA, "criterion")
        scores = compute(subject, Options(own), Settings(data=spec), silent)[1]
        row = []
        for budget, worth in columns:
            options = Options(solver=Greedy(), align=1, worth=parse_worth(worth))
            plan = plan_for(subject, budget, options, Settings(scores=scores))
            row.append(accuracy(apply_plan(subject, plan), data).top1)
        print(f"{text:36}" + "".join(f"{top1:17.3f}" for top1 in row), flush=True)


if __name__ == "__main__":
    sys.exit(main())

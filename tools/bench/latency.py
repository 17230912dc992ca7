"""Figure 3: onnxruntime latency at 46 % of the MACs, beside Torch-Pruning in the same run.

    python tools/bench/latency.py MODEL... [--corpus FOLDER] [--rounds 30] [--no-peer]

CPU, one thread, batch 1, samples interleaved; prunec with its default alignment. MODEL comes from
the corpus of exported torchvision networks (random weights), file name torchvision.NAME.*.onnx:

    python FOLDER/make.py OUT --source torchvision --full-size --keep-batchnorm \\
        resnet50 mobilenet_v2 densenet121

FOLDER: by default ../shared/corpus beside the repository; its torchvision_cpu.py is what imports
torchvision beside a CPU build of torch. The peer (torch-pruning with torch and torchvision, where
installed) prunes the same network by L2 magnitude to the largest model within the same MACs: at
one ratio for every layer and globally, unrounded and rounded to 8, exported as MODEL was.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from verdict import Figure, report

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"
BUDGET = 0.46
LEAST_SPEEDUP: Mapping[str, float] = {"mobilenet_v2": 1.7, "resnet50": 1.95}
BISECTIONS = 7


def prune(model: Path, target: Path) -> None:
    """Write the pruned model with prunec's defaults."""
    from prunec.passes.options import Options
    from prunec.runtime.compile import Settings, compile_model, plan_for
    from prunec.runtime.subject import open_model

    subject, settings = open_model(model), Settings()
    plan = plan_for(subject, f"flops={BUDGET}", Options(), settings)
    compile_model(subject, plan, settings, target)


def macs(path: Path) -> int:
    """Multiply-accumulates, counted on the file by one and the same rule for all."""
    from prunec.runtime.subject import open_model

    graph = open_model(path).graph
    return graph.costs["flops"](graph.dense())


def peers(model: Path, corpus: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Label and file of each variant that Torch-Pruning makes of the same network."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "torch_pruning")):
        print("SKIPPED the peer: torch and torch-pruning are not installed")
        return
    if (corpus / "torchvision_cpu.py").is_file():
        sys.path.insert(0, str(corpus))
        importlib.import_module("torchvision_cpu")
    elif importlib.util.find_spec("torchvision") is None:
        print("SKIPPED the peer: torchvision is not installed")
        return
    name = model.name.split(".")[1]
    for everywhere, multiple in itertools.product((False, True), (None, 8)):
        label = f"{'global' if everywhere else 'per layer'}, " + (
            "unrounded" if multiple is None else f"rounded to {multiple}"
        )
        target = folder / f"peer-{everywhere}-{multiple}.onnx"
        _export(_peer(name, everywhere, multiple), target, ".bn." in model.name)
        yield label, target


def _peer(name: str, everywhere: bool, multiple: int | None) -> Any:
    """The network at the smallest pruning ratio that meets the budget, by bisection."""
    import torch

    tp: Any = importlib.import_module("torch_pruning")
    models: Any = importlib.import_module("torchvision.models")
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))

    def pruned(ratio: float) -> Any:
        torch.manual_seed(0)
        net = models.get_model(name, weights=None).eval()
        heads = [m for m in net.modules() if isinstance(m, torch.nn.Linear)]
        if ratio:
            tp.pruner.MagnitudePruner(
                net,
                x,
                importance=tp.importance.MagnitudeImportance(p=2),
                pruning_ratio=ratio,
                global_pruning=everywhere,
                ignored_layers=heads[-1:],
                round_to=multiple,
            ).step()
        return net

    def cost(net: Any) -> float:
        return float(tp.utils.count_ops_and_params(net, x)[0])

    dense = cost(pruned(0.0))
    low, high, best = 0.0, 0.95, None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        net = pruned(middle)
        if cost(net) <= BUDGET * dense:
            high, best = middle, net
        else:
            low = middle
    return best if best is not None else pruned(high)


def _export(net: Any, path: Path, keep_batchnorm: bool) -> None:
    import torch

    options: dict[str, Any] = {}
    if keep_batchnorm:
        options = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.randn(1, 3, 224, 224),), path, dynamo=False, **options)


def measure(model: Path, a: argparse.Namespace) -> list[Figure]:
    """Speed-ups over dense, all from the same interleaved run."""
    from prunec.runtime.bench import bench

    name = next((n for n in LEAST_SPEEDUP if n in model.name), model.stem)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        files = {"prunec": folder / "prunec.onnx"}
        prune(model, files["prunec"])
        if not a.no_peer:
            files |= {f"Torch-Pruning, {k}": path for k, path in peers(model, a.corpus, folder)}
        result = bench([model, *files.values()], rounds=a.rounds, seconds=a.seconds)
        dense = macs(model)
        shares = [f"MACs {macs(path) / dense:.4f}" for path in files.values()]
    figures = [Figure(f"{name}: dense", 1e3 * result.models[0].median_s, "ms", form=".2f")]
    rows = zip(files, result.ratios, result.models[1:], shares, strict=True)
    for label, ratio, timing, share in rows:
        bar = LEAST_SPEEDUP.get(name) if label == "prunec" else None
        best = result.models[0].fastest_s / timing.fastest_s
        note = (
            f"{share}; 95 % interval {ratio.low:.2f} to {ratio.high:.2f}; fastest runs {best:.2f}"
        )
        figures.append(Figure(f"{name}: {label}", ratio.ratio, "x", least=bar, note=note))
    return figures


def main() -> int:
    """Measure every model on one core."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=120.0, help="of measuring, per model")
    parser.add_argument("--no-peer", action="store_true")
    a = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return report([figure for model in a.models for figure in measure(model, a)])


if __name__ == "__main__":
    sys.exit(main())

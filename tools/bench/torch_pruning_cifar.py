"""Torch-Pruning's pruned forms of a network of cifar_nets.py, written as ONNX.

    python tools/bench/torch_pruning_cifar.py NET MODEL.onnx DATA BUDGET FOLDER

Runs in an interpreter with torch, onnx and torch-pruning; recovery.py calls it. The weights come
from MODEL. Every criterion prunes to the largest MACs that are at most BUDGET of the dense ones
(bisection over the pruning ratio, which is global over the network, or the same in all layers), on
all channels that Torch-Pruning finds and, where there are residual streams, also within the
branches alone; criteria with gradients see 512 labelled train images, and all norms are
re-estimated on these. Prints one line of JSON: files and share of MACs by criterion.
"""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
import itertools
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from cifar_nets import NETS
from onnx import numpy_helper
from resnet20 import _module
from torch import Tensor, nn
from torch.nn import functional

CALIBRATION = 512
BATCH = 128
STEPS = 8  # of the bisection
HESSIAN_IMAGES = 128
CRITERIA: dict[str, Callable[[Any], Any]] = {
    "magnitude-l1": lambda tp: tp.importance.GroupMagnitudeImportance(p=1),
    "magnitude-l2": lambda tp: tp.importance.GroupMagnitudeImportance(p=2),
    "lamp": lambda tp: tp.importance.LAMPImportance(p=2),
    "bn-scale": lambda tp: tp.importance.BNScaleImportance(),
    "taylor": lambda tp: tp.importance.GroupTaylorImportance(),
    "hessian": lambda tp: tp.importance.GroupHessianImportance(),
}


def main() -> int:
    """Prune by every criterion; print the files."""
    name, model, data, budget, folder = sys.argv[1:]
    tp: Any = importlib.import_module("torch_pruning")
    torch.set_num_threads(1)
    cifar10 = _module(Path(data) / "load.py")
    images, labels = cifar10.load("train", CALIBRATION, 0)
    x, y = torch.from_numpy(cifar10.preprocess(images)), torch.from_numpy(labels)
    dense = seen(loaded(name, Path(model)), x, y)
    files, shares = {}, {}
    for label, net, share in forms(tp, dense, float(budget)):
        reestimate(net, x)
        path = Path(folder) / f"tp-{name}-{budget}-{label}.onnx"
        write(net, path)
        files[label], shares[label] = str(path), share
    version = importlib.metadata.version("torch-pruning")
    print(json.dumps({"version": version, "files": files, "macs": shares}))
    return int(not files)


def loaded(name: str, model: Path) -> nn.Module:
    """The module with the weights of the ONNX file, by name."""
    tensors = {t.name: t for t in onnx.load(model).graph.initializer}
    net = NETS[name]()
    state = {
        key: torch.from_numpy(numpy_helper.to_array(tensors[key]).copy()).reshape(old.shape)
        for key, old in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    net.load_state_dict(state, strict=False)
    return net.eval()


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """The dense module, and what criteria see of it: gradients and their squares, by name."""

    module: nn.Module
    gradients: dict[str, Tensor]
    squares: dict[str, Tensor]
    image: Tensor

    def copy(self, criterion: Any, tp: Any) -> nn.Module:
        """A module to prune, with its gradients where the criterion looks for them."""
        net = copy.deepcopy(self.module)
        for name, parameter in net.named_parameters():
            parameter.grad = self.gradients[name].clone()
            if isinstance(criterion, tp.importance.GroupHessianImportance):
                criterion._accu_grad[parameter] = self.squares[name].clone()
                criterion._counter[parameter] = HESSIAN_IMAGES
        return net


def seen(module: nn.Module, x: Tensor, y: Tensor) -> Network:
    """Gradients of the mean loss, and sums of squares of those of single images."""
    module.zero_grad()
    functional.cross_entropy(module(x), y).backward()
    mean = {name: p.grad.clone() for name, p in module.named_parameters()}
    squares = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    for k in range(HESSIAN_IMAGES):
        module.zero_grad()
        functional.cross_entropy(module(x[k : k + 1]), y[k : k + 1]).backward()
        for name, p in module.named_parameters():
            squares[name] += p.grad.square()
    module.zero_grad()
    return Network(module, mean, squares, x[:1])


def forms(tp: Any, dense: Network, budget: float) -> Iterator[tuple[str, nn.Module, float]]:
    """Label, pruned module, share of MACs; what fails on this network is said and left out."""
    places = ("all", "branches") if hasattr(dense.module, "inner") else ("all",)
    for (name, criterion), spread, where in itertools.product(
        CRITERIA.items(), ("global", "even"), places
    ):
        try:
            net, share = to_budget(tp, dense, criterion, Where(spread == "global", where), budget)
        except Exception as error:  # a peer may fail in any way
            print(f"{name}-{spread}-{where}: {str(error)[:80]!r}", file=sys.stderr)
            continue
        if net is not None:
            yield f"{name}-{spread}-{where}", net, share


@dataclass(frozen=True, slots=True)
class Where:
    """everywhere: one ranking over the network, not the same ratio in all layers."""

    everywhere: bool
    layers: str


def to_budget(
    tp: Any, dense: Network, criterion: Any, where: Where, budget: float
) -> tuple[nn.Module | None, float]:
    """The pruned module with the most MACs within the budget, by bisection over the ratio."""
    whole, _ = tp.utils.count_ops_and_params(dense.module, dense.image)
    low, high, best, reached = 0.0, 0.95, None, 0.0
    for _ in range(STEPS):
        ratio = (low + high) / 2
        net = pruned(tp, dense, criterion(tp), where, ratio)
        share = tp.utils.count_ops_and_params(net, dense.image)[0] / whole
        if share <= budget:
            high = ratio
            if share > reached:
                best, reached = net, share
        else:
            low = ratio
    return best, reached


def pruned(tp: Any, dense: Network, criterion: Any, where: Where, ratio: float) -> nn.Module:
    """One step of Torch-Pruning at this ratio."""
    net = dense.copy(criterion, tp)
    ignored = [[m for m in net.modules() if isinstance(m, nn.Linear)][-1]]
    if where.layers == "branches":
        inside = set(net.inner())
        ignored += [m for m in net.modules() if isinstance(m, nn.Conv2d) and m not in inside]
    heads = {
        layer: m.num_heads
        for m in net.modules()
        if hasattr(m, "num_heads")
        for layer in (m.q, m.k, m.v)
    }
    tp.pruner.BasePruner(
        net,
        dense.image,
        importance=criterion,
        pruning_ratio=ratio,
        ignored_layers=ignored,
        global_pruning=where.everywhere,
        **({"num_heads": heads} if heads else {}),
    ).step()
    net.zero_grad()
    return net


def reestimate(net: nn.Module, x: Tensor) -> None:
    """Running statistics of all norms anew, the mean over the images."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # a plain mean; the file must not say so, it will be trained
    net.train()
    with torch.no_grad():
        for first in range(0, len(x), BATCH):
            net(x[first : first + BATCH])
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
    net.eval()


def write(net: nn.Module, path: Path) -> None:
    """Export with BatchNormalization nodes and a free batch axis."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (torch.zeros(1, 3, 32, 32),), path, dynamo=False, input_names=["image"],
            output_names=["logits"], dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

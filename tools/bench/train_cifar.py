"""Train a network of cifar_nets.py on the CIFAR-10 train images, and write it as ONNX.

    python tools/bench/train_cifar.py mobilenet|densenet|vit [--epochs 15] [--seconds S]
        [--start NAME.onnx] [--out build/nets/NAME.onnx] [--data FOLDER]

FOLDER holds load.py and the images (default: ../shared/data/cifar10 beside the repository). One
core, a fixed seed; --seconds shortens the schedule so that it ends in time. --start goes on with
the weights of such a file, at half the peak rate. The file keeps its BatchNormalization nodes and
takes any batch; top-1 on the 10000 test images is printed, measured in torch. Its inputs are
normalised by `preprocess` of load.py.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from cifar_nets import NETS
from resnet20 import SHARED, _module
from torch import Tensor, nn
from torch.nn import functional

REPOSITORY = Path(__file__).resolve().parents[2]
PADDING = 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained; lr is the peak of the one-cycle schedule."""

    optimizer: type[torch.optim.Optimizer]
    lr: float
    options: dict[str, Any]
    batch: int = 128
    smoothing: float = 0.05
    warm_up: float = 0.15  # share of the steps
    # On a CPU depthwise convolutions are slower in bfloat16; all the rest gains a third.
    bfloat16: bool = True
    # Crops of this width until `grows` of the schedule cost half of the full ones.
    early_crop: int = 32
    grows: float = 0.65


CONVOLUTIONAL = Recipe(
    torch.optim.SGD, 0.3, {"momentum": 0.9, "weight_decay": 3e-4, "nesterov": True}, early_crop=24
)
RECIPES = {
    "resnet20": CONVOLUTIONAL,
    "mobilenet": replace(CONVOLUTIONAL, bfloat16=False),
    "densenet": CONVOLUTIONAL,
    "vit": Recipe(torch.optim.AdamW, 2e-3, {"weight_decay": 0.05}),
}


def main() -> int:
    """Train, export, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(NETS))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of training, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="a file that this script wrote")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "cifar10")
    a = parser.parse_args()
    if not (a.data / "load.py").is_file():
        print(f"SKIPPED: {a.data}/load.py does not exist; give the folder with --data")
        return 0
    out = a.out or REPOSITORY / "build" / "nets" / f"{a.name}.onnx"
    out.parent.mkdir(parents=True, exist_ok=True)
    cifar10 = _module(a.data / "load.py")
    images, labels = cached(cifar10, "train")
    torch.manual_seed(a.seed)
    torch.set_num_threads(1)
    net, recipe = NETS[a.name](), RECIPES[a.name]
    if a.start is not None:
        restore(net, a.start)
        recipe = replace(recipe, lr=recipe.lr / 2)
    net = net.to(memory_format=torch.channels_last)
    train(net, recipe, images, labels, cifar10, a)
    net = net.to(memory_format=torch.contiguous_format)
    write(net, out)
    print(f"{out}: top-1 {top1(net, cifar10):.2f} %", flush=True)
    return 0


def cached(cifar10: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Decoded images, kept for the next run in build/, by folder."""
    folder = Path(cifar10.__file__).resolve().parent
    key = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    path = REPOSITORY / "build" / f"{folder.name}-{key}-{split}.npz"
    path.parent.mkdir(exist_ok=True)
    if path.is_file():
        with np.load(path) as data:
            return data["images"], data["labels"]
    images, labels = cifar10.load(split)
    part = path.with_suffix(".part.npz")
    np.savez(part, images=images, labels=labels)
    part.replace(path)
    return images, labels


def train(
    net: nn.Module,
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
    cifar10: Any,
    a: argparse.Namespace,
) -> None:
    """One-cycle schedule over --epochs, or over what fits into --seconds."""
    draw = np.random.default_rng(a.seed)
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = recipe.optimizer(groups, lr=recipe.lr, **recipe.options)  # type: ignore[call-arg]
    steps_each = len(images) // recipe.batch
    start, epoch, progress = time.monotonic(), 0, 0.0
    net.train()
    while progress < 1 - 1e-9:
        total, order = 0.0, draw.permutation(len(images))
        left = max(a.seconds - (time.monotonic() - start), 0)
        begun = time.monotonic()
        for k in range(steps_each):
            # A step's share of what is left: by epochs, or by time where that is less.
            each = (time.monotonic() - begun) / k if k >= 20 else 0.0
            steps_left = (a.epochs - epoch) * steps_each - k
            if each:
                steps_left = min(steps_left, max((left - (time.monotonic() - begun)) / each, 1))
            progress = min(progress + (1 - progress) / steps_left, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * one_cycle(progress, recipe.warm_up)
            rows = order[k * recipe.batch : (k + 1) * recipe.batch]
            crop = recipe.early_crop if progress < recipe.grows else images.shape[-1]
            x = torch.from_numpy(cifar10.preprocess(augmented(images[rows], crop, draw)))
            total += step(net, optimizer, x, torch.from_numpy(labels[rows]), recipe)
            if progress >= 1:
                break
        epoch += 1
        seconds = time.monotonic() - start
        print(
            f"epoch {epoch}: loss {total / (k + 1):.4f}, {100 * progress:.0f} %, {seconds:.0f} s",
            flush=True,
        )


def step(
    net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, recipe: Recipe
) -> float:
    """One optimizer step; returns the batch's loss."""
    with torch.autocast("cpu", torch.bfloat16, recipe.bfloat16):
        logits = net(x.contiguous(memory_format=torch.channels_last))
    loss = functional.cross_entropy(logits.float(), y, label_smoothing=recipe.smoothing)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def one_cycle(progress: float, warm_up: float) -> float:
    """Share of the peak rate: linear up over `warm_up`, then a cosine down to zero."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + float(np.cos(np.pi * (progress - warm_up) / (1 - warm_up))))


def augmented(images: np.ndarray, size: int, draw: np.random.Generator) -> np.ndarray:
    """Square crops at random places, half of them mirrored: (B, 3, size, size).

    Crops of the images' own size come from zero-padded images.
    """
    count, margin = len(images), images.shape[-1] - size
    if not margin:
        margin, border = 2 * PADDING, (PADDING, PADDING)
        images = np.pad(images, ((0, 0), (0, 0), border, border))
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), (2, 3))
    at = draw.integers(0, margin + 1, (2, count))
    crops = windows[np.arange(count), :, at[0], at[1]]
    mirrored = draw.random(count) < 0.5
    crops[mirrored] = crops[mirrored][..., ::-1]
    return crops


def top1(net: nn.Module, cifar10: Any) -> float:
    """Percent of the test images that the network gets right, in float32."""
    images, labels = cached(cifar10, "test")
    right = 0
    net.eval()
    with torch.no_grad():
        for first in range(0, len(images), 500):
            logits = net(torch.from_numpy(cifar10.preprocess(images[first : first + 500])))
            right += int((logits.argmax(1).numpy() == labels[first : first + 500]).sum())
    return 100 * right / len(images)


def restore(net: nn.Module, path: Path) -> None:
    """Take over weights and statistics: they are named as in the state dict."""
    stored = ir.load(path).graph.initializers
    state = net.state_dict()
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            value = stored[name].const_value
            assert value is not None
            tensor.copy_(torch.from_numpy(value.numpy().copy()))


def write(net: nn.Module, path: Path) -> None:
    """Export with parameter names, BatchNormalization nodes and a free batch axis."""
    from prunec.frontends.torch import from_torch

    ir.save(from_torch(net, (torch.zeros(1, 3, 32, 32),)), path)


if __name__ == "__main__":
    sys.exit(main())

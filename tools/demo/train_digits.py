"""Train the demo's network on scikit-learn's digits and write it with its held-out images.

Run as ``python tools/demo/train_digits.py`` with the ``dev`` extra installed (about one minute on
one core). The files in the repository are its output; the demo itself needs neither torch nor
scikit-learn.

The network is trained to be prunable: after every step the scale and shift of each BatchNorm
shrink towards zero (L1 by a proximal step: "network slimming", Liu et al., ICCV 2017) and the
weights decay. So channels that the task does not need end near zero, and removing them costs
little; without the penalty it costs much more. SLIMMING was chosen among a few values by the
accuracy after removing channels on the same 450 images, so the demo's figure is no clean estimate.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common
import onnxscript.optimizer
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

SEED = 0
EPOCHS = 80
BATCH = 64
LEARNING_RATE = 0.1
WEIGHT_DECAY = 1e-3
SLIMMING = 0.03


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut; the shortcut is a strided convolution on a change."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from all channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same."""
        gate = self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1))))
        return x * torch.sigmoid(gate)


class Inverted(nn.Module):
    """Widen, depthwise 3x3, squeeze-and-excite, narrow."""

    def __init__(self, inputs: int, wide: int, outputs: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(inputs, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.depthwise = nn.Conv2d(wide, wide, 3, 1, 1, groups=wide, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.excite = SqueezeExcite(wide, wide // 8)
        self.narrow = nn.Conv2d(wide, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        y = F.relu(self.bn1(self.widen(x)))
        y = self.excite(F.relu(self.bn2(self.depthwise(y))))
        return cast(Tensor, self.bn3(self.narrow(y)))


class Digits(nn.Module):
    """Three stages at 8x8, 4x4 and 2x2, then the mean over the map and one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 24, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(24)
        self.stage1 = Residual(24, 24)
        self.stage2 = nn.Sequential(Residual(24, 40, stride=2), Inverted(40, 120, 48))
        self.stage3 = Residual(48, 56, stride=2)
        self.head = nn.Linear(56, 10)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, 8, 8) in [0, 1] -> (N, 10) logits."""
        x = F.relu(self.bn(self.stem(image)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return cast(Tensor, self.head(x.mean((2, 3))))


def split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images, test images, training labels, test labels; always the same split."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    parts = train_test_split(images, labels, test_size=450, random_state=SEED, stratify=labels)
    return cast(tuple[Tensor, Tensor, Tensor, Tensor], tuple(map(torch.from_numpy, parts)))


def shifted(images: Tensor, random: torch.Generator) -> Tensor:
    """Return the batch moved by at most one pixel each way, with zeros at the border."""
    down, right = torch.randint(0, 3, (2,), generator=random).tolist()
    return F.pad(images, (1, 1, 1, 1))[:, :, down : down + 8, right : right + 8]


def shrink(model: nn.Module, amount: float) -> None:
    """Move every BatchNorm scale and shift by `amount` towards zero, and no further."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for parameter in (module.weight, module.bias):
                parameter.copy_(F.softshrink(parameter, amount))


def train(images: Tensor, labels: Tensor) -> nn.Module:
    """Return the trained network in inference mode."""
    torch.manual_seed(SEED)
    random = torch.Generator().manual_seed(SEED)
    model = Digits()
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.SGD(
        model.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images), generator=random)
        for index in order[: len(order) // BATCH * BATCH].reshape(-1, BATCH):
            rate = float(schedule.get_last_lr()[0])
            loss = F.cross_entropy(model(shifted(images[index], random)), labels[index])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            with torch.no_grad():
                shrink(model, rate * SLIMMING)
            schedule.step()
    return model.eval()


def export(model: nn.Module, path: Path) -> None:
    """Write the network as ONNX: BatchNorm as trained, parameter names kept, any batch size."""
    program = torch.onnx.export(
        model,
        (torch.zeros(2, 1, 8, 8),),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        opset_version=18,
        dynamo=True,
        optimize=False,  # the optimiser would fold BatchNorm into the convolutions
        verbose=False,
    )
    assert program is not None
    onnxscript.optimizer.fold_constants(program.model)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    # Per-node metadata holds stack traces: half the file, and paths of the training machine.
    ir.passes.common.ClearMetadataAndDocStringPass()(program.model)
    for node in program.model.graph:
        node.metadata_props.clear()
    ir.save(program.model, path)


def main() -> None:
    """Train, report the accuracy on held-out images, write both files beside this script."""
    images, test_images, labels, test_labels = split()
    model = train(images, labels)
    with torch.no_grad():
        right = model(test_images).argmax(1) == test_labels
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    print(f"{int(right.sum())} of {len(right)} held-out images right")
    folder = Path(__file__).parent
    export(model, folder / "digits.onnx")
    np.savez_compressed(folder / "digits.npz", image=test_images.numpy(), label=test_labels.numpy())


if __name__ == "__main__":
    main()

"""The architectures of peers.py: standard structures at small sizes, random weights.

torchvision's networks at the smallest input that they take, and what torchvision has not.
Widths in `forward` come from the tensors, so that a pruned module still runs and exports.
"""
# ruff: noqa: D102 - forward is torch's name for what the class says.

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from attention_nets import CLASSES, VOCABULARY, Llama, ViT, llama_heads, vit_heads
from torch import Tensor, nn
from torch.nn import functional


def _no_hints(_: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Architecture:
    """build: the network. inputs: what it is exported with. last: name of the layer that makes the
    output. script: export by torch.jit.script. hints: what Torch-Pruning wants a person to say.
    """

    build: Callable[[], Any]
    inputs: Callable[[], tuple[Tensor, ...]]
    last: str
    keep_batchnorm: bool = False
    script: bool = False
    hints: Callable[[Any], dict[str, Any]] = _no_hints


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut without weights: strided, padded with zero channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.pad = (outputs - inputs) // 2
        self.first = conv_bn(inputs, outputs, stride=self.stride)
        self.second = conv_bn(outputs, outputs)[:2]

    def forward(self, x: Tensor) -> Any:
        short = x
        if self.stride == 2:
            short = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return functional.relu(self.second(self.first(x)) + short)


class ResNet20(nn.Module):
    """He et al., CVPR 2016, section 4.2: CIFAR-10, option A."""

    def __init__(self) -> None:
        super().__init__()
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        self.stem = conv_bn(3, 16)
        self.blocks = nn.Sequential(*(BasicBlock(a, b) for a, b in itertools.pairwise(widths)))
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class UNet(nn.Module):
    """Two levels, ConvTranspose upwards, skips by concatenation."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        a, b, c = width, 2 * width, 4 * width
        self.down = nn.ModuleList([self.pair(3, a), self.pair(a, b), self.pair(b, c)])
        self.rise = nn.ModuleList([nn.ConvTranspose2d(c, b, 2, 2), nn.ConvTranspose2d(b, a, 2, 2)])
        self.up = nn.ModuleList([self.pair(c, b), self.pair(b, a)])
        self.last = nn.Conv2d(a, 2, 1)

    @staticmethod
    def pair(inputs: int, outputs: int) -> nn.Sequential:
        """Two convolutions."""
        return nn.Sequential(conv_bn(inputs, outputs), conv_bn(outputs, outputs))

    def forward(self, x: Tensor) -> Any:
        first = self.down[0](x)
        second = self.down[1](functional.max_pool2d(first, 2))
        x = self.down[2](functional.max_pool2d(second, 2))
        x = self.up[0](torch.cat([self.rise[0](x), second], 1))
        return self.last(self.up[1](torch.cat([self.rise[1](x), first], 1)))


def espcn(scale: int = 3) -> nn.Sequential:
    """Super-resolution by sub-pixel convolution (Shi et al., CVPR 2016)."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 5, padding=2),
        nn.Tanh(),
        nn.Conv2d(64, 32, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(32, scale**2, 3, padding=1),
        nn.PixelShuffle(scale),
    )


def _instance_norm(conv: nn.Module, width: int) -> list[nn.Module]:
    return [conv, nn.InstanceNorm2d(width, affine=True), nn.ReLU()]


class NormalisedResidual(nn.Module):
    """Residual block of the generator."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first = _instance_norm(nn.Conv2d(width, width, 3), width)
        second = _instance_norm(nn.Conv2d(width, width, 3), width)[:2]
        pads = nn.ReflectionPad2d(1), nn.ReflectionPad2d(1)
        self.body = nn.Sequential(pads[0], *first, pads[1], *second)

    def forward(self, x: Tensor) -> Any:
        return x + self.body(x)


def generator(width: int = 16, blocks: int = 3) -> nn.Sequential:
    """Image-to-image generator with instance norm (Zhu et al., ICCV 2017)."""
    a, b, c = width, 2 * width, 4 * width
    return nn.Sequential(
        nn.ReflectionPad2d(3),
        *_instance_norm(nn.Conv2d(3, a, 7), a),
        *_instance_norm(nn.Conv2d(a, b, 3, 2, 1), b),
        *_instance_norm(nn.Conv2d(b, c, 3, 2, 1), c),
        *(NormalisedResidual(c) for _ in range(blocks)),
        *_instance_norm(nn.ConvTranspose2d(c, b, 3, 2, 1, 1), b),
        *_instance_norm(nn.ConvTranspose2d(b, a, 3, 2, 1, 1), a),
        nn.ReflectionPad2d(3),
        nn.Conv2d(a, 3, 7),
        nn.Tanh(),
    )


class LSTMClassifier(nn.Module):
    """Embedding, two LSTM layers, classifier on the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 64)
        self.lstm = nn.LSTM(64, 128, num_layers=2, batch_first=True)
        self.fc = nn.Linear(128, CLASSES)

    def forward(self, tokens: Tensor) -> Any:
        return self.fc(self.lstm(self.embedding(tokens))[0][:, -1])


class Branches(nn.Module):
    """One of two layers, by what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(32, 64)
        self.one, self.other = nn.Linear(64, 64), nn.Linear(64, 64)
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        if bool(x.sum() > 0):  # noqa: SIM108 - torch.jit.script makes an If of this form
            x = torch.relu(self.one(x))
        else:
            x = torch.tanh(self.other(x))
        logits: Tensor = self.fc(x)
        return logits


class C2f(nn.Module):
    """Split, a chain of bottlenecks, and the concatenation of all that came by (YOLOv8)."""

    def __init__(self, inputs: int, outputs: int, depth: int = 2) -> None:
        super().__init__()
        half = outputs // 2
        self.first = conv_bn(inputs, outputs, 1)
        self.chain = nn.ModuleList(
            nn.Sequential(conv_bn(half, half), conv_bn(half, half)) for _ in range(depth)
        )
        self.last = conv_bn((2 + depth) * half, outputs, 1)

    def forward(self, x: Tensor) -> Any:
        parts = list(self.first(x).chunk(2, 1))
        for bottleneck in self.chain:
            parts.append(parts[-1] + bottleneck(parts[-1]))
        return self.last(torch.cat(parts, 1))


def yolo() -> nn.Sequential:
    """Two C2f stages and a convolution as the head."""
    stages = [conv_bn(3, 16, 3, 2), C2f(16, 32), conv_bn(32, 64, 3, 2), C2f(64, 64)]
    return nn.Sequential(*stages, nn.Conv2d(64, 4 + CLASSES, 1))


def swin_heads(net: Any) -> dict[str, Any]:
    """Heads of torchvision's window attention."""
    return {"num_heads": {m.qkv: m.num_heads for m in net.modules() if hasattr(m, "qkv")}}


def image(channels: int = 3, side: int = 32) -> Callable[[], tuple[Tensor, ...]]:
    """One random image."""
    return lambda: (torch.randn(1, channels, side, side),)


def tokens() -> tuple[Tensor, ...]:
    """One sequence of 16 tokens."""
    return (torch.randint(0, VOCABULARY, (1, 16)),)


def vision(name: str, last: str, **options: Any) -> Architecture:
    """A network of torchvision."""

    def build() -> Any:
        torchvision: Any = importlib.import_module("torchvision")

        return torchvision.models.get_model(name, weights=None)

    return Architecture(build, image(), last, **options)


def vgg11() -> Any:
    """torchvision's, with 512 instead of 4096 channels in the classifier: a file of 90 MB."""
    torchvision: Any = importlib.import_module("torchvision")

    net = torchvision.models.vgg11(weights=None)
    widths = {0: (512 * 7 * 7, 512), 3: (512, 512), 6: (512, 1000)}
    for place, (inputs, outputs) in widths.items():
        net.classifier[place] = nn.Linear(inputs, outputs)
    return net


ARCHITECTURES: Mapping[str, Architecture] = {
    "VGG-11": Architecture(vgg11, image(), "classifier.6"),
    "ResNet-20": Architecture(ResNet20, image(), "fc"),
    "ResNet-20, BatchNorm nodes": Architecture(ResNet20, image(), "fc", keep_batchnorm=True),
    "ResNet-50": vision("resnet50", "fc"),
    "MobileNetV2": vision("mobilenet_v2", "classifier.1"),
    "EfficientNet-B0 (squeeze-excite MBConv)": vision("efficientnet_b0", "classifier.1"),
    "ResNeXt-50 32x4d": vision("resnext50_32x4d", "fc"),
    "DenseNet-121": vision("densenet121", "classifier"),
    "DenseNet-121, BatchNorm nodes": vision("densenet121", "classifier", keep_batchnorm=True),
    "ShuffleNetV2 1.0": vision("shufflenet_v2_x1_0", "fc"),
    "U-Net, ConvTranspose": Architecture(UNet, image(), "last"),
    "ESPCN": Architecture(espcn, image(1), "4"),
    "instance-norm generator": Architecture(generator, image(), "20"),
    "ViT, separate Q K V": Architecture(lambda: ViT(False), image(), "fc", hints=vit_heads),
    "ViT, fused QKV": Architecture(lambda: ViT(True), image(), "fc", hints=vit_heads),
    "LLaMA-style, GQA": Architecture(Llama, tokens, "head", hints=llama_heads),
    "LSTM classifier": Architecture(LSTMClassifier, tokens, "fc"),
    "If branch": Architecture(Branches, lambda: (torch.randn(2, 32),), "fc", script=True),
    "YOLO with C2f": Architecture(yolo, image(), "4"),
    "Swin-T": vision("swin_t", "head", hints=swin_heads),
    "ConvNeXt-T": vision("convnext_tiny", "classifier.2"),
}

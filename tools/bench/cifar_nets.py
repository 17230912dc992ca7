"""Small networks for 32 x 32 images and ten classes, of three shapes other than ResNet's.

MobileNetV2-shaped: inverted residuals around depthwise convolutions. DenseNet-shaped:
concatenation, and BatchNormalization before activation and convolution. ViT-shaped: patch
embedding, LayerNorm, self-attention, MLP. `train_cifar.py` trains them.
"""
# ruff: noqa: D102 - forward is torch's name for what the class says.

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10


class Unit(nn.Sequential):
    """Convolution, BatchNormalization, and ReLU6 where `active`."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        active: bool,
    ) -> None:
        parts: list[nn.Module] = [
            nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(after),
        ]
        super().__init__(*parts, *([nn.ReLU6()] if active else []))


class InvertedResidual(nn.Module):
    """Expand, depthwise 3 x 3, project (Sandler et al., CVPR 2018, figure 3d)."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = before * expansion
        self.adds = stride == 1 and before == after
        self.expand = Unit(before, width, 1, active=True) if expansion > 1 else nn.Identity()
        self.depthwise = Unit(width, width, 3, stride, width, active=True)
        self.project = Unit(width, after, 1, active=False)

    def forward(self, x: Tensor) -> Any:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class MobileNet(nn.Module):
    """MobileNetV2's blocks, its last stages left out: 16, 8 and 4 pixels wide."""

    # (expansion, channels, blocks, stride of the first)
    STAGES = ((1, 16, 1, 1), (3, 24, 2, 1), (4, 32, 3, 2), (4, 64, 3, 2))

    def __init__(self) -> None:
        super().__init__()
        width = 32
        blocks: list[nn.Module] = [Unit(3, width, 3, 2, active=True)]
        for expansion, channels, count, stride in self.STAGES:
            for k in range(count):
                blocks.append(InvertedResidual(width, channels, 1 if k else stride, expansion))
                width = channels
        self.features = nn.Sequential(*blocks, Unit(width, 3 * width, 1, active=True))
        self.classifier = nn.Linear(3 * width, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.classifier(self.features(x).mean((2, 3)))


class Activated(nn.Sequential):
    """BatchNormalization and ReLU, then a convolution (He et al., ECCV 2016)."""

    def __init__(self, before: int, after: int, kernel: int) -> None:
        convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
        super().__init__(nn.BatchNorm2d(before), nn.ReLU(), convolution)


class DenseLayer(nn.Module):
    """Bottleneck layer whose output joins its input (Huang et al., CVPR 2017, DenseNet-B)."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.bottleneck = Activated(before, 4 * growth, 1)
        self.grow = Activated(4 * growth, growth, 3)

    def forward(self, x: Tensor) -> Any:
        return torch.cat([x, self.grow(self.bottleneck(x))], 1)


class DenseNet(nn.Module):
    """DenseNet-BC of three blocks, 16, 8 and 4 pixels wide; transitions halve the channels."""

    def __init__(self, growth: int = 12, blocks: tuple[int, ...] = (4, 6, 6)) -> None:
        super().__init__()
        width = 2 * growth
        parts: list[nn.Module] = [nn.Conv2d(3, width, 3, 2, 1, bias=False)]
        for k, layers in enumerate(blocks):
            if k:
                parts += [Activated(width, width // 2, 1), nn.AvgPool2d(2)]
                width //= 2
            for _ in range(layers):
                parts.append(DenseLayer(width, growth))
                width += growth
        self.features = nn.Sequential(*parts, nn.BatchNorm2d(width), nn.ReLU())
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.classifier(self.features(x).mean((2, 3)))


class Attention(nn.Module):
    """Self-attention; the head count in `forward` holds for a pruned module too."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Any:
        batch, tokens, _ = x.shape
        rows = (f(x).reshape(batch, tokens, self.num_heads, -1) for f in (self.q, self.k, self.v))
        q, k, v = (r.transpose(1, 2) for r in rows)
        # Written out: torch's fused kernel is five times slower in bfloat16 on a CPU.
        weights = functional.softmax(q @ k.transpose(-1, -2) * k.shape[-1] ** -0.5, -1)
        return self.out((weights @ v).transpose(1, 2).reshape(batch, tokens, -1))


class Encoder(nn.Module):
    """Transformer block, norms first."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(self, x: Tensor) -> Any:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """64 tokens of 4 x 4 pixels, learnt positions, averaged at the end.

    Dosovitskiy et al., ICLR 2021; the embedding is two strided convolutions, which train faster
    than one (Xiao et al., NeurIPS 2021).
    """

    def __init__(self, width: int = 64, heads: int = 4, depth: int = 4, expansion: int = 2) -> None:
        super().__init__()
        half = width // 2
        self.embed = nn.Sequential(
            nn.Conv2d(3, half, 3, 2, 1), nn.GELU(), nn.Conv2d(half, width, 3, 2, 1)
        )
        self.position = nn.Parameter(0.02 * torch.randn(1, 64, width))
        self.blocks = nn.Sequential(*(Encoder(width, heads, expansion) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Any:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        return self.classifier(self.norm(self.blocks(x)).mean(1))


class Basic(nn.Module):
    """Basic block with the parameter-free shortcut of CIFAR's ResNets (He et al., option A)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride, self.more = stride, after - before

    def forward(self, x: Tensor) -> Any:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.more:
            half = self.more // 2
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return functional.relu(y + x)


class ResNet20(nn.Module):
    """The module of ../shared/models/resnet20-cifar10.onnx, by its parameter names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Basic(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(Basic(16, 32, 2), Basic(32, 32, 1), Basic(32, 32, 1))
        self.layer3 = nn.Sequential(Basic(32, 64, 2), Basic(64, 64, 1), Basic(64, 64, 1))
        self.linear = nn.Linear(64, CLASSES)

    def inner(self) -> list[nn.Module]:
        """Convolutions whose outputs stay within a branch."""
        return [m.conv1 for m in self.modules() if isinstance(m, Basic)]

    def forward(self, x: Tensor) -> Any:
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


NETS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet20": ResNet20,
    "mobilenet": MobileNet,
    "densenet": DenseNet,
    "vit": ViT,
}

"""Small models with telling names, for tests of what comes after the rules."""

from __future__ import annotations

import numpy as np
import onnx
from properties.builder import Builder


def weight(b: Builder, name: str, *shape: int) -> str:
    return b.store(b.rng.choice([-2.0, -1.0, 1.0, 2.0], shape).astype(np.float32), name)


def conv(b: Builder, x: str, name: str, m: int, k: int = 1, group: int = 1) -> str:
    c = b.shapes[x][1]
    return b.conv_with(x, weight(b, name, m, c // group, k, k), group, bias=False)


def chain(opset: int = 17, seed: int = 0) -> onnx.ModelProto:
    """conv1 (8 channels) -> BatchNorm -> Relu -> conv2 (6) -> Relu -> pool -> fc."""
    b = Builder(seed, opset, batch=1)
    x = conv(b, b.input(1, 3, 4, 4), "conv1.weight", 8, 3)
    names = ("bn.weight", "bn.bias", "bn.mean", "bn.var")
    vectors = [weight(b, n, 8) for n in names[:3]] + [b.store(np.ones(8, np.float32), names[3])]
    x = b.relu(b.add("BatchNormalization", [x, *vectors], epsilon=0.0))
    x = b.relu(conv(b, x, "conv2.weight", 6))
    x = b.add("Flatten", [b.pooled(x)], (1, 6))
    x = b.add("Gemm", [x, weight(b, "fc.weight", 5, 6), weight(b, "fc.bias", 5)], (1, 5), transB=1)
    b.output(x)
    return b.model()


def residual(opset: int = 17) -> onnx.ModelProto:
    """A stem, a residual block over it, and a depthwise layer."""
    b = Builder(1, opset, batch=1)
    x = conv(b, b.input(1, 3, 4, 4), "stem.weight", 8)
    y = conv(b, b.relu(conv(b, x, "block.a.weight", 6, 3)), "block.b.weight", 8)
    x = conv(b, b.add("Add", [x, y]), "depth.weight", 8, 3, group=8)
    b.output(conv(b, b.relu(x), "head.weight", 3))
    return b.model()


def joined(opset: int = 17) -> onnx.ModelProto:
    """Two branches side by side, read by one convolution."""
    b = Builder(2, opset, batch=1)
    x = b.input(1, 3, 2, 2)
    left, right = conv(b, x, "left.weight", 4), conv(b, x, "right.weight", 6)
    both = b.add("Concat", [left, right], (1, 10, 2, 2), axis=1)
    b.output(conv(b, both, "head.weight", 3))
    return b.model()

"""Residual networks of published sizes, with weights of zeros."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper


class _Net:
    def __init__(self, image: int) -> None:
        self.nodes, self.weights = [], []
        self.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, image, image])
        self.width, self.x = 3, "x"

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, name: str, out: int, into: int, k: int, stride: int = 1) -> str:
        weight = np.zeros((out, into, k, k), np.float32)
        self.weights.append(numpy_helper.from_array(weight, name))
        pads = [k // 2] * 4
        return self.op("Conv", x, name, kernel_shape=[k, k], strides=[stride] * 2, pads=pads)

    def block(self, name: str, inner: Sequence[tuple[int, int, int]], out: int) -> None:
        """inner: (width, kernel, stride) of every convolution but the last; then one to `out`."""
        into, x, width = self.x, self.x, self.width
        last = 1 if len(inner) > 1 else 3
        for number, (n, k, stride) in enumerate(inner, 1):
            x = self.op("Relu", self.conv(x, f"{name}.conv{number}", n, width, k, stride))
            width = n
        x = self.conv(x, f"{name}.conv{len(inner) + 1}", out, width, last)
        stride = max(s for _, _, s in inner)
        if stride > 1 or out != self.width:
            into = self.conv(into, f"{name}.downsample", out, self.width, 1, stride)
        self.x, self.width = self.op("Relu", self.op("Add", x, into)), out

    def model(self, classes: int) -> ModelProto:
        flat = self.op("Flatten", self.op("GlobalAveragePool", self.x))
        weight = np.zeros((self.width, classes), np.float32)
        self.weights.append(numpy_helper.from_array(weight, "fc"))
        out = self.op("MatMul", flat, "fc")
        y = helper.make_tensor_value_info(out, TensorProto.FLOAT, [1, classes])
        graph = helper.make_graph(self.nodes, "net", [self.input], [y], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def resnet50(image: int = 224) -> ModelProto:
    """The second version of torchvision: strides in the 3x3 convolutions."""
    net = _Net(image)
    net.x = net.op("Relu", net.conv("x", "conv1", 64, 3, 7, 2))
    net.x, net.width = net.op("MaxPool", net.x, kernel_shape=[2, 2], strides=[2, 2]), 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for b in range(blocks):
            stride = 2 if stage > 1 and b == 0 else 1
            net.block(f"layer{stage}.{b}", [(width, 1, 1), (width, 3, stride)], 4 * width)
    return net.model(1000)


def resnet56(image: int = 32) -> ModelProto:
    """For CIFAR, with projections as shortcuts."""
    net = _Net(image)
    net.x, net.width = net.op("Relu", net.conv("x", "conv1", 16, 3, 3)), 16
    for stage, width in enumerate((16, 32, 64), 1):
        for b in range(9):
            net.block(f"layer{stage}.{b}", [(width, 3, 2 if stage > 1 and b == 0 else 1)], width)
    return net.model(10)

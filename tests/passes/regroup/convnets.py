"""Small convolutional networks, node by node."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.freedom import Freedom
from prunec.frontends.onnx import load
from prunec.runtime.subject import Subject, open_model


class Net:
    """A network, node by node; weights are random."""

    def __init__(self, channels: int) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.channels = {"x": channels}

    def add(self, op: str, *inputs: str, channels: int | None = None, **attributes: object) -> str:
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], f"{op}{out}", **attributes))
        self.channels[out] = self.channels[inputs[0]] if channels is None else channels
        return out

    def store(self, array: np.ndarray) -> str:
        self.stored.append(self.tensor(array))
        return self.stored[-1].name

    def tensor(self, array: np.ndarray) -> onnx.TensorProto:
        return numpy_helper.from_array(array.astype(np.float32), f"w{len(self.stored)}")

    def whole(self, *numbers: int) -> str:
        """Stored integers."""
        name = f"i{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
        return name

    def conv(self, x: str, filters: int, kernel: int = 3, bias: bool = True, **kw: object) -> str:
        shape = (filters, self.channels[x], kernel, kernel)
        inputs = [x, self.store(self.rng.standard_normal(shape))]
        if bias:
            inputs.append(self.store(self.rng.standard_normal(filters)))
        return self.add("Conv", *inputs, channels=filters, pads=[kernel // 2] * 4, **kw)

    def norm(self, x: str) -> str:
        n = self.channels[x]
        parameters = [self.store(self.rng.uniform(0.5, 2, n)) for _ in range(4)]
        return self.add("BatchNormalization", x, *parameters)

    def block(self, x: str, filters: int, kernel: int = 3) -> str:
        return self.add("Relu", self.norm(self.conv(x, filters, kernel)))

    def head(self, x: str) -> str:
        flat = self.add("Flatten", self.add("GlobalAveragePool", x))
        return self.add("Gemm", flat, self.store(self.rng.standard_normal((self.channels[x], 5))))

    def subject(self, *outputs: str) -> Subject:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, self.channels["x"], 8, 8))],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.stored,
        )
        opset = [helper.make_opsetid("", 17)]
        model = onnx.shape_inference.infer_shapes(
            helper.make_model(graph, opset_imports=opset, ir_version=8)
        )
        return open_model(load(model), freedom=Freedom(residual=True))

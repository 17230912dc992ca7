"""Small nets of single nodes, and a whole prune of them with its proof."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prunec.passes.options import Options
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.subject import open_model
from prunec.runtime.verify import Verification, verify

Shape = list[Any]


class Net:
    """Nodes in a row; weights are made as they are named."""

    def __init__(self, opset: int, image: Shape) -> None:
        self.opset, self.image = opset, image
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[TensorProto] = []

    def store(self, name: str, array: np.ndarray) -> str:
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        return self.store(name, self.rng.standard_normal(shape).astype(np.float32))

    def add(self, op: str, inputs: list[str], outputs: list[str], **attrs: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attrs))
        return outputs[0]

    def conv(self, x: str, name: str, out: int, channels: int) -> str:
        return self.add("Conv", [x, self.weight(f"{name}.w", out, channels, 1, 1)], [name])

    def model(self, y: str, shape: Shape) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.image)],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, shape)],
            self.tensors,
        )
        imports = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


def prune(model: onnx.ModelProto, budget: str = "flops=0.6") -> tuple[dict[str, int], Verification]:
    subject = open_model(model)
    options = Options(solver=Greedy(), align=1)
    plan = plan_for(subject, budget, options, Settings())
    return (
        {name: len(kept.positions) for name, kept in plan.hyperedges.items()},
        verify(subject, plan, apply_plan(subject, plan)),
    )

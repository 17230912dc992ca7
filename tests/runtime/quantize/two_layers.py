"""A small network of two convolutions and a product, and images that are smooth."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.quantisation import Grid
from prunec.frontends.shapes import infer_facts
from prunec.passes.insert import values_by_name
from prunec.passes.quantize.quantisers import Line, Scaler
from prunec.passes.quantize.simulate import simulated
from prunec.passes.quantize.weights import weight_grid
from prunec.passes.recovery.storage import store, tensor_of
from prunec.runtime.quantize.reconstruct import Reconstructed
from prunec.runtime.session import make_session


class Two:
    """x (n, 3, 6, 6) -> Conv 3x3 with a bias -> Relu "a" -> grouped Conv -> "b.y" -> Gemm -> y."""

    def __init__(self, channels: int = 4) -> None:
        rng = np.random.default_rng(0)
        shapes = {
            "a.w": (channels, 3, 3, 3),
            "a.b": (channels,),
            "b.w": (6, channels // 2, 3, 3),
            "c.w": (5, 6),
            "c.b": (5,),
        }
        arrays = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
        nodes = [
            helper.make_node("Conv", ["x", "a.w", "a.b"], ["a.y"], "a.y", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a.y"], ["a"], "a"),
            helper.make_node("Conv", ["a", "b.w"], ["b.y"], "b.y", group=2),
            helper.make_node("GlobalAveragePool", ["b.y"], ["p"], "p"),
            helper.make_node("Flatten", ["p"], ["f"], "f"),
            helper.make_node("Gemm", ["f", "c.w", "c.b"], ["y"], "y", transB=1, alpha=0.5),
        ]
        graph = helper.make_graph(
            nodes,
            "two",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
            [numpy_helper.from_array(a, k) for k, a in arrays.items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(proto)
        self.model: ir.Model = ir.serde.deserialize_model(proto)
        self.facts = infer_facts(self.model, {"x": (8, 3, 6, 6)})
        self.axes = {"a.w": 0, "b.w": 0, "c.w": 0}

    def weight(self, name: str) -> np.ndarray:
        tensor = tensor_of(values_by_name(self.model.graph)[name])
        assert tensor is not None
        return tensor.numpy()

    def grids(self, bits: int) -> dict[str, Grid]:
        return {
            k: weight_grid(self.weight(k), Scaler(), bits, axis) for k, axis in self.axes.items()
        }

    def activations(self, bits: int) -> dict[str, Grid]:
        ends = {"x": (-2.5, 2.5), "a": (0.0, 12.0), "f": (-6.0, 6.0)}
        return {k: Line()(np.array([a]), np.array([b]), bits) for k, (a, b) in ends.items()}

    def off(
        self, grids: dict[str, Grid], activations: dict[str, Grid], found: Reconstructed
    ) -> float:
        """Relative squared error of y on samples that nothing was fitted to."""
        own = simulated(self.model, self.facts, activations)
        held = values_by_name(own.graph)
        for name, codes in found.codes.items():
            store(held[name], grids[name].values(codes))
        for name, bias in found.biases.items():
            store(held[name], bias)
        x = images(200, seed=7)
        (y,), (z,) = (make_session(m).run({"x": x}) for m in (self.model, own))
        return float(np.square(y - z).sum() / np.square(y - y.mean(0)).sum())


def images(number: int, seed: int) -> np.ndarray:
    """Smooth, so that neighbours are alike."""
    noise = np.random.default_rng(seed).normal(size=(number, 3, 6, 6))
    return (noise + 2 * noise.mean((2, 3), keepdims=True)).cumsum(3).astype(np.float32) / 2

"""Nets whose hidden channels come twice, the second time at half the size: one half says it all.

Once the second half is pruned, the weights that read the first can be solved exactly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.errors import InfeasibleBudgetError
from prunec.compiler.plan import Plan
from prunec.compiler.recovery import Recovered, Recovery
from prunec.passes.options import Options
from prunec.passes.recovery.least_squares import LeastSquares
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.data import DataSpec
from prunec.runtime.recovery.recover import Running, recover
from prunec.runtime.session import make_session
from prunec.runtime.subject import Subject, open_model

HALF = 4
SHAPE = (3, 6, 6)


class Net:
    """Nodes and weights in the order in which they are added."""

    def __init__(self, shape: tuple[int, ...] = SHAPE, dtype: type = np.float32) -> None:
        self.shape, self.dtype = shape, dtype
        self.rng = np.random.default_rng(3)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[TensorProto] = []

    def store(self, name: str, array: Any) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(array, self.dtype), name))
        return name

    def draw(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)

    def add(self, op: str, inputs: list[str], out: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [out], out, **attributes))
        return out

    def twice(self, x: str, name: str, channels: int, kernel: tuple[int, ...] = (3, 3)) -> str:
        """A convolution with a bias and a Relu, whose channels come twice."""
        w, b = self.draw(HALF, channels, *kernel), self.draw(HALF)
        self.store(f"{name}.w", np.concatenate([w, w / 2]))
        self.store(f"{name}.b", np.concatenate([b, b / 2]))
        pads = [n // 2 for n in kernel] * 2
        self.add("Conv", [x, f"{name}.w", f"{name}.b"], f"{name}.y", pads=pads)
        return self.add("Relu", [f"{name}.y"], name)

    def reader(self, name: str, *shape: int, axis: int = 1) -> str:
        """A weight in which the second half of the channels that it reads counts little."""
        w = self.draw(*shape)
        np.moveaxis(w, axis, 0)[shape[axis] // 2 :] *= 0.3
        return self.store(name, w)

    def norm(self, x: str, name: str, channels: int) -> str:
        parts = (self.draw(channels) + 1, self.draw(channels), self.draw(channels))
        names = [self.store(f"{name}.{k}", p) for k, p in zip("gbm", parts, strict=True)]
        variance = self.store(f"{name}.v", np.abs(self.draw(channels)) + 0.5)
        return self.add("BatchNormalization", [x, *names, variance], name)

    def model(self, y: str, shape: tuple[Any, ...]) -> onnx.ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", kind, ["n", *self.shape])],
            [helper.make_tensor_value_info(y, kind, shape)],
            self.tensors,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def samples(folder: Path, net: Net, number: int = 60, seed: int = 1) -> DataSpec:
    """Random samples in a file."""
    x = np.random.default_rng(seed).standard_normal((number, *net.shape)).astype(net.dtype)
    path = folder / f"{number}-{seed}.npz"
    np.savez(path, x=x)
    return DataSpec(str(path))


def halved(
    model: onnx.ModelProto, only: str = r"^a\.w", kept: int = HALF
) -> tuple[Subject, Plan, ir.Model]:
    """The model with so many channels left of each of the hyperedges that match."""
    subject = open_model(model)
    options = Options(solver=Greedy(), only=(only,), align=kept, min_keep=kept)
    try:
        plan = plan_for(subject, "flops=0.00001", options, Settings())
    except InfeasibleBudgetError as least:
        assert least.smallest is not None
        plan = plan_for(
            subject, f"flops={(least.smallest + 0.5) / least.dense:.12f}", options, Settings()
        )
    assert any(len(e.positions) < e.size for e in plan.hyperedges.values())
    return subject, plan, apply_plan(subject, plan)


def recovered(
    model: onnx.ModelProto,
    data: DataSpec,
    recovery: Recovery | None = None,
    only: str = r"^a\.w",
    running: Running | None = None,
    kept: int = HALF,
) -> tuple[Subject, ir.Model, ir.Model, Recovered]:
    """The subject, the sliced and the recovered model, and the report."""
    subject, plan, sliced = halved(model, only, kept)
    out, report = recover(subject, plan, sliced, data, recovery or LeastSquares(), running)
    return subject, sliced, out, report


def error(subject: Subject, model: ir.Model, net: Net, seed: int = 9) -> float:
    """Largest difference of outputs on fresh samples, relative to the largest dense output."""
    x = np.random.default_rng(seed).standard_normal((8, *net.shape)).astype(net.dtype)
    (a,), (b,) = (make_session(m).run({"x": x}) for m in (subject.model, model))
    return float(np.abs(a - b).max() / np.abs(a).max())

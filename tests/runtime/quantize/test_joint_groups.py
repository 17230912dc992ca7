"""Channels, numbers of groups and bits in one decision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from prunec.frontends.onnx import load
from prunec.passes.grouping import Grouping
from prunec.passes.options import Options
from prunec.passes.quantize.file_bytes import file_bytes
from prunec.runtime.compile import Settings, compile_model, plan_for
from prunec.runtime.data import DataSpec
from prunec.runtime.subject import open_model, reopened


def net() -> onnx.ModelProto:
    """image (n, 3, 8, 8) -> Conv(8) -> Relu -> Conv(8) -> Relu -> pool -> Gemm."""
    rng = np.random.default_rng(0)
    shapes = {"a": (8, 3, 3, 3), "b": (8, 8, 3, 3), "c": (6, 8)}
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["h"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "b"], ["g"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["g"], ["s"], "relu2"),
        helper.make_node("GlobalAveragePool", ["s"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "c"], ["logits"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "groups",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 6])],
        [
            numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
            for name, shape in shapes.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model


def groups_of(model: ir.Model) -> dict[str, int]:
    return {
        str(node.name): int(node.attributes["group"].as_int())
        for node in model.graph
        if node.op_type == "Conv" and "group" in node.attributes
    }


def test_groups_and_bits_share_the_budget(tmp_path: Path) -> None:
    images = np.random.default_rng(1).standard_normal((24, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", image=images)
    subject = open_model(load(net()))
    settings = Settings(
        data=DataSpec(str(tmp_path / "x.npz")),
        quantize="auto",
        recover="none",
        accuracy=False,
        verify=True,
    )
    # No channel may leave: only groups reach this flops, only 4 bits these bytes.
    options = Options(align=1, keep=(".",), grouping=Grouping(conv="auto"))
    plan = plan_for(subject, "flops=0.7,bytes=0.2", options, settings)
    assert plan.groups.keys() == {"b"}
    assert min(plan.bits.values()) == 4
    assert plan.costs["params"][1] < plan.costs["params"][0]
    for resource in ("flops", "bytes"):
        assert plan.costs[resource][1] <= plan.budget[resource]
    done = compile_model(subject, plan, settings)
    assert done.report.verification is not None
    assert done.report.verification.passed
    assert groups_of(done.model)["second"] > 1
    own = reopened(done.model, subject).graph
    counted = {w.value for w in own.weights if w.counted}
    assert file_bytes(done.model, counted) == plan.costs["bytes"][1]
    assert done.plan.bits == plan.bits

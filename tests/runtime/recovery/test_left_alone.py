"""Weights that recovery leaves as they were sliced are named, each with its reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from doubled import HALF, Net, recovered, samples
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.recovery import Recovered
from prunec.runtime.difference import Failed
from prunec.runtime.recovery.only_weights import check_only_weights

pytest.importorskip("onnxruntime")


def integers(net: Net, name: str, *shape: int) -> str:
    """A weight behind DequantizeLinear."""
    net.tensors.append(
        numpy_helper.from_array(net.rng.integers(-9, 9, shape).astype(np.int8), f"{name}.q")
    )
    net.store(f"{name}.s", np.array(0.05))
    return net.add("DequantizeLinear", [f"{name}.q", f"{name}.s"], name)


def quantised() -> tuple[Net, onnx.ModelProto]:
    net = Net()
    a = net.twice("x", "a", 3)
    net.add("Conv", [a, integers(net, "b.w", 5, 2 * HALF, 3, 3)], "b", pads=[1] * 4)
    net.add("Conv", ["b", integers(net, "c.w", 4, 5, 1, 1)], "c")
    net.add("Conv", ["x", integers(net, "d.w", 4, 3, 1, 1)], "d")
    net.add("Add", ["c", "d"], "y")
    return net, net.model("y", ("n", 4, 6, 6))


def replaceable() -> tuple[Net, onnx.ModelProto]:
    """A weight that is an input of the model as well."""
    net = Net()
    a = net.twice("x", "a", 3)
    net.add("Conv", [a, net.reader("b.w", 5, 2 * HALF, 1, 1)], "b")
    net.add("Conv", ["b", net.store("c.w", net.draw(4, 5, 1, 1))], "y")
    model = net.model("y", ("n", 4, 6, 6))
    fed = helper.make_tensor_value_info("c.w", TensorProto.FLOAT, (4, 5, 1, 1))
    model.graph.input.append(fed)
    return net, model


def computed() -> tuple[Net, onnx.ModelProto]:
    """Weight normalisation: direction times length."""
    net = Net()
    a = net.twice("x", "a", 3)
    length = net.store("length", np.full((5, 1, 1, 1), 0.5))
    w = net.add("Mul", [net.reader("b.w", 5, 2 * HALF, 1, 1), length], "w")
    net.add("Conv", [a, w], "y")
    return net, net.model("y", ("n", 5, 6, 6))


def picked() -> tuple[Net, onnx.ModelProto]:
    """Rows that NonZero picks by contents: other ones in the pruned model."""
    net = Net()
    a = net.twice("x", "a", 3)
    t = net.add("Transpose", [a], "t", perm=[0, 2, 3, 1])
    net.tensors.append(numpy_helper.from_array(np.array([-1]), "last"))
    total = net.add("ReduceSum", [t, "last"], "total", keepdims=0)
    more = net.add("Greater", [total, net.store("bound", np.array(2.5))], "more")
    at = net.add("Transpose", [net.add("NonZero", [more], "found")], "at", perm=[1, 0])
    rows = net.add("GatherND", [t, at], "rows")
    net.add("MatMul", [rows, net.reader("b.w", 2 * HALF, 3, axis=0)], "y")
    return net, net.model("y", ("k", 3))


@pytest.mark.parametrize(
    ("build", "nodes", "why"),
    [
        (quantised, ["b", "c"], "it is quantised"),
        (replaceable, ["y"], "c.w is an input of the model"),
        (computed, ["y"], "it is computed"),
        (picked, ["y"], "which rows it reads depends on what is computed"),
    ],
)
def test_what_stays_is_named(
    build: Callable[[], tuple[Net, onnx.ModelProto]], nodes: list[str], why: str, tmp_path: Path
) -> None:
    """Only layers behind a removed channel are; d reads none."""
    net, model = build()
    report: Recovered = recovered(model, samples(tmp_path, net))[3]
    notes = [note for note in report.diagnostics if note.code == "not-recovered"]
    assert [note.node for note in notes] == nodes
    assert all(why in note.message for note in notes), notes
    assert not {repair.layer for repair in report.repairs} & set(nodes)


def resized() -> tuple[Net, onnx.ModelProto]:
    net = Net()
    a = net.twice("x", "a", 3)
    net.add("Resize", [a, "", net.store("scales", np.array([1, 1, 2, 2]))], "up")
    net.add("Conv", ["up", net.reader("b.w", 5, 2 * HALF, 1, 1)], "y")
    return net, net.model("y", ("n", 5, 12, 12))


def test_floats_that_are_no_weights_may_not_change(tmp_path: Path) -> None:
    net, model = resized()
    _, sliced, out, _ = recovered(model, samples(tmp_path, net))
    assert check_only_weights(sliced, out)
    value = out.graph.initializers["scales"]
    value.const_value = ir.tensor(np.array([1, 1, 3, 2], np.float32), name="scales")
    with pytest.raises(Failed, match="scales has other contents, and Resize up reads no weight"):
        check_only_weights(sliced, out)


def test_nodes_in_bodies_of_functions_may_not_change() -> None:
    node = helper.make_node
    branches = {
        name: helper.make_graph(
            [node(op, ["x"], [f"{name}.y"], f"{name}.n")],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}.y", TensorProto.FLOAT, None)],
        )
        for name, op in (("then_branch", "Relu"), ("else_branch", "Tanh"))
    }
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    body = [node("If", ["c"], ["y"], "choice", **branches)]
    function = helper.make_function("own", "f", ["x", "c"], ["y"], body, opsets[:1])
    graph = helper.make_graph(
        [node("f", ["x", "c"], ["y"], "call", domain="own")],
        "net",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3)),
            helper.make_tensor_value_info("c", TensorProto.BOOL, ()),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 3))],
    )
    proto = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)
    sliced = ir.serde.deserialize_model(proto)
    proto.functions[0].node[0].attribute[0].g.node[0].op_type = "Sigmoid"
    with pytest.raises(Failed, match="Sigmoid"):
        check_only_weights(sliced, ir.serde.deserialize_model(proto))

"""Norms inside of layers: the same outputs, fewer nodes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.frontends.onnx import load
from prunec.passes.apply import remove_dead
from prunec.passes.quantize.norms import fold_norms

pytest.importorskip("onnxruntime")


def net(
    layer: str, shape: tuple[int, ...], bias: bool = True, **options: object
) -> onnx.ModelProto:
    """A layer of 6 outputs on (2, 4, 5, 5), or on (2, 4), with a norm behind it."""
    rng = np.random.default_rng(0)
    flat = layer == "Gemm"
    names = ["x", "w", *(["b"] if bias else [])]
    contents = {
        "w": rng.normal(size=shape),
        "b": rng.normal(size=6),
        "gamma": rng.normal(size=6),
        "beta": rng.normal(size=6),
        "mean": rng.normal(size=6),
        "var": rng.uniform(0.1, 2, 6),
    }
    nodes = [
        helper.make_node(layer, names, ["y"], "layer", **options),
        helper.make_node(
            "BatchNormalization", ["y", "gamma", "beta", "mean", "var"], ["z"], "norm", epsilon=0.01
        ),
        helper.make_node("Relu", ["z"], ["out"], "relu"),
    ]
    sizes = [2, 4] if flat else [2, 4, 5, 5]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in contents.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def folded(model: onnx.ModelProto) -> tuple[ir.Model, ir.Model]:
    before = load(model)
    after = before.clone()
    fold_norms(after)
    remove_dead(after.graph)
    return before, after


def outputs(model: ir.Model) -> np.ndarray:
    from prunec.runtime.session import make_session

    session = make_session(model, optimise=False)
    shape = session.inputs[0].shape
    assert shape is not None
    x = np.random.default_rng(1).normal(size=[int(n or 1) for n in shape]).astype(np.float32)
    return session.run({"x": x})[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("layer", "shape", "options"),
    [
        ("Conv", (6, 4, 3, 3), {}),
        ("Conv", (6, 2, 3, 3), {"group": 2}),
        ("ConvTranspose", (4, 6, 3, 3), {}),
        ("ConvTranspose", (4, 3, 3, 3), {"group": 2}),
        ("Gemm", (4, 6), {}),
        ("Gemm", (6, 4), {"transB": 1}),
        ("Gemm", (4, 6), {"beta": 0.5}),
    ],
)
def test_outputs_are_the_same(
    layer: str, shape: tuple[int, ...], options: dict[str, object], bias: bool
) -> None:
    before, after = folded(net(layer, shape, bias, **options))
    assert [n.op_type for n in after.graph] == [layer, "Relu"]
    np.testing.assert_allclose(outputs(before), outputs(after), atol=2e-5)
    assert str(after.graph.node(0).outputs[0].name) == "z"


def test_a_weight_that_others_read_is_copied() -> None:
    model = net("Conv", (6, 4, 3, 3))
    model.graph.node.append(helper.make_node("Conv", ["x", "w"], ["other"], "second"))
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, None))
    _, after = folded(model)
    second = next(n for n in after.graph if n.name == "second")
    weight = second.inputs[1]
    assert weight is not None and weight.const_value is not None
    stored = numpy_helper.to_array(model.graph.initializer[0])
    np.testing.assert_array_equal(weight.const_value.numpy(), stored)


def kept(change: str) -> onnx.ModelProto:
    model = net("Conv", (6, 4, 3, 3))
    if change == "output":
        model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    elif change == "reader":
        model.graph.node.append(helper.make_node("Tanh", ["y"], ["t"], "tanh"))
        model.graph.output.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, None))
    elif change == "between":
        model.graph.node[0].output[0] = "y0"
        model.graph.node.insert(1, helper.make_node("Relu", ["y0"], ["y"], "between"))
    elif change == "fed":
        shape = [6, 4, 3, 3]
        model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, shape))
    return model


@pytest.mark.parametrize("change", ["output", "reader", "between", "fed"])
def test_a_norm_stays_where_something_else_needs_what_it_reads(change: str) -> None:
    _, after = folded(kept(change))
    assert "BatchNormalization" in [n.op_type for n in after.graph]

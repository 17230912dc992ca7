"""Every row of the table computes what onnxruntime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from prunec.compiler.folding import FOLDS, NotFoldable, fold
from prunec.frontends.onnx import load

onnxruntime = pytest.importorskip("onnxruntime")

X = np.array([[[[-1.5]], [[0.25]], [[2.0]], [[7.0]]]], np.float32)  # channels of one place
Y = np.array([[[[2.0]], [[1.0]], [[0.5]], [[3.0]]]], np.float32)
VECTORS = [
    np.array(v, np.float32) for v in ([1, 2, 3, 4], [0, 1, 0, 1], [1, 0, 2, 0], [1, 4, 9, 2])
]
LEVELS = np.array([-128, 5, 127, 0], np.int8).reshape(1, 4, 1, 1)
LAST = X.reshape(1, 1, 4)
AXES = np.array([1], np.int64)
BINARY = "Add Div Max Min Mul Pow Sub Sum Equal Greater GreaterOrEqual Less LessOrEqual"
FORMS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    **{op: ([X, Y], {}) for op in BINARY.split()},
    "AveragePool": ([X], {"kernel_shape": [1, 1]}),
    "BatchNormalization": ([X, *VECTORS], {}),
    "Cast": ([X], {"to": TensorProto.FLOAT16}),
    "Clip": ([X, np.array(-1, np.float32), np.array(6, np.float32)], {}),
    "DequantizeLinear": ([LEVELS, Y.reshape(4), np.array([1, 2, 3, 4], np.int8)], {"axis": 1}),
    "Elu": ([X], {"alpha": 0.5}),
    "GlobalAveragePool": ([X], {}),
    "HardSigmoid": ([X], {"alpha": 0.25, "beta": 0.4}),
    "LayerNormalization": ([LAST, VECTORS[0], VECTORS[1]], {"axis": -1}),
    "LeakyRelu": ([X], {"alpha": 0.2}),
    "Log": ([Y], {}),
    "MaxPool": ([X], {"kernel_shape": [1, 1]}),
    "Not": ([X > 0], {}),
    "PRelu": ([X, Y[0]], {}),
    "QuantizeLinear": ([X, np.array(0.05, np.float32), np.array(7, np.int8)], {}),
    "ReduceMax": ([X, AXES], {"keepdims": 1}),
    "ReduceMean": ([X, AXES], {"keepdims": 0}),
    "ReduceMin": ([X, AXES], {}),
    "Sqrt": ([Y], {}),
    "Transpose": ([X], {"perm": [0, 2, 3, 1]}),
    "Where": ([X > 0, X, Y], {}),
}


def run(op: str, inputs: list[Any], attributes: dict[str, Any]) -> tuple[ir.Node, Any]:
    """The node, and what onnxruntime makes of it."""
    names = [f"i{k}" for k in range(len(inputs))]
    kinds = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in inputs]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], "node", **attributes)],
        "g",
        [
            helper.make_tensor_value_info(n, k, a.shape)
            for n, k, a in zip(names, kinds, inputs, strict=True)
        ],
        [onnx_value("y", op, attributes)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (want,) = session.run(None, dict(zip(names, inputs, strict=True)))
    return load(model).graph[0], want


def onnx_value(name: str, op: str, attributes: dict[str, Any]) -> Any:
    boolean = op in ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not"]
    kind = attributes.get("to", TensorProto.BOOL if boolean else TensorProto.FLOAT)
    kind = TensorProto.INT8 if op == "QuantizeLinear" else kind
    return helper.make_tensor_value_info(name, kind, None)


@pytest.mark.parametrize("op", sorted(FOLDS))
def test_folding_is_running(op: str) -> None:
    inputs, attributes = FORMS.get(op, ([X], {}))
    node, want = run(op, inputs, attributes)
    got = fold(node, inputs)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    np.testing.assert_allclose(
        got.astype(np.float64), want.astype(np.float64), rtol=1e-5, atol=1e-6
    )


def test_every_form_is_of_a_row() -> None:
    assert FORMS.keys() <= FOLDS.keys()


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Softmax", [X], {}),
        ("MaxPool", [np.ones((1, 2, 3, 1), np.float32)], {"kernel_shape": [2, 1]}),
        ("AveragePool", [X], {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}),
        ("Dropout", [X, np.array(0.5, np.float32), np.array(True)], {}),
    ],
)
def test_what_depends_on_more_than_the_values_is_left(
    op: str, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    node, _ = run(op, inputs, attributes)
    with pytest.raises(NotFoldable):
        fold(node, inputs)


def test_the_gaussian_unit_has_both_its_forms() -> None:
    for form in ("none", "tanh"):
        node, want = run("Gelu", [X], {"approximate": form})
        np.testing.assert_allclose(fold(node, [X]), want, rtol=1e-5, atol=1e-6)

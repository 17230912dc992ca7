"""Every evaluator against the ONNX reference implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from prunec.compiler.constants import EVALUATORS, evaluate

INTS = np.array([[4, -3, 2], [1, 0, -7]])
FLOATS = np.array([[0.5, -1.5, 2.0], [4.0, 0.25, -7.5]], np.float32)
OTHER = np.array([[2, 2, 5], [1, 3, -2]])
BOOLS, MASK = INTS > 0, OTHER > 1
I = np.int64  # noqa: E741


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CASES: list[tuple[str, Sequence[Any], dict[str, Any]]] = [
    *((op, [INTS, OTHER], {}) for op in ("Add", "Sub", "Mul", "Div", "Equal", "Greater", "Less")),
    *((op, [INTS, OTHER], {}) for op in ("GreaterOrEqual", "LessOrEqual", "Max", "Min", "Sum")),
    *((op, [INTS], {}) for op in ("Abs", "Neg", "Shape", "Size", "Identity", "Transpose")),
    *((op, [FLOATS], {}) for op in ("Ceil", "Floor", "Round", "Abs", "Neg")),
    *((op, [BOOLS, MASK], {}) for op in ("And", "Or")),
    ("Not", [BOOLS], {}),
    ("Sqrt", [np.abs(FLOATS)], {}),
    ("Div", [FLOATS, FLOATS + np.float32(0.125)], {}),
    ("Pow", [OTHER, np.array(2)], {}),
    ("Pow", [np.abs(FLOATS), np.array(0.5, np.float32)], {}),
    ("Mod", [INTS, OTHER], {}),
    ("Mod", [INTS, OTHER], {"fmod": 1}),
    ("Cast", [FLOATS], {"to": TensorProto.INT64}),
    ("Cast", [INTS], {"to": TensorProto.FLOAT}),
    ("Cast", [INTS], {"to": TensorProto.BOOL}),
    ("Shape", [np.zeros((2, 3, 4))], {"start": 1}),
    ("Shape", [np.zeros((2, 3, 4))], {"start": -2, "end": -1}),
    ("Concat", [INTS, OTHER], {"axis": 1}),
    ("Concat", [INTS, OTHER], {"axis": -2}),
    ("Gather", [INTS, ints(2, -1)], {"axis": 1}),
    ("Gather", [INTS, np.array(1)], {}),
    ("Slice", [INTS, ints(1), ints(3), ints(-1)], {}),
    ("Slice", [INTS, ints(-1), ints(-(2**31)), ints(1), ints(-2)], {}),
    ("Slice", [INTS, ints(0, 0), ints(2**31, 2)], {}),
    ("Split", [INTS, ints(1, 2)], {"axis": 1}),
    ("Squeeze", [INTS[None, :, None], ints(0, -2)], {}),
    ("Squeeze", [INTS[None]], {}),
    ("Unsqueeze", [INTS, ints(0, -1)], {}),
    ("Reshape", [INTS, ints(3, -1)], {}),
    ("Reshape", [INTS, ints(0, 3)], {}),
    ("Transpose", [INTS[None]], {"perm": [2, 0, 1]}),
    ("Expand", [INTS[0], ints(2, 3)], {}),
    ("Expand", [INTS, ints(1, 1)], {}),
    ("Tile", [INTS, ints(2, 1)], {}),
    ("Where", [BOOLS, INTS, OTHER], {}),
    ("Range", [np.array(1), np.array(9), np.array(3)], {}),
    ("Range", [np.array(5.0), np.array(0.0), np.array(-1.5)], {}),
    ("ConstantOfShape", [ints(2, 3)], {}),
    ("ConstantOfShape", [ints(2)], {"value": numpy_helper.from_array(ints(7))}),
    ("ReduceSum", [INTS, ints(1)], {}),
    ("ReduceSum", [INTS], {"keepdims": 0}),
    ("ReduceSum", [INTS], {"noop_with_empty_axes": 1}),
    *((op, [INTS, ints(0)], {"keepdims": 0}) for op in ("ReduceMax", "ReduceMin", "ReduceProd")),
    ("ReduceMean", [FLOATS, ints(1)], {}),
    ("Reciprocal", [FLOATS], {}),
    ("Sign", [INTS], {}),
    ("Xor", [BOOLS, MASK], {}),
    ("CastLike", [INTS, FLOATS], {}),
    ("Clip", [INTS, np.array(-2), np.array(2)], {}),
    ("Clip", [FLOATS], {}),
    ("Compress", [INTS, np.array([True, False, True])], {"axis": 1}),
    ("Compress", [INTS, np.array([True, False, True])], {}),
    ("CumSum", [INTS, np.array(1)], {}),
    ("NonZero", [BOOLS], {}),
    ("GatherElements", [INTS, np.array([[2, 0], [1, 1]])], {"axis": 1}),
    ("GatherND", [INTS, np.array([[0, 2], [1, -3]])], {}),
    ("GatherND", [INTS, np.array([[1], [0]])], {}),
    ("ScatterElements", [INTS, np.array([[2, 0], [1, 0]]), np.array([[5, 6], [7, 8]])],
     {"axis": 1}),
    ("ScatterND", [INTS, np.array([[0, 2], [1, 0]]), ints(8, 9)], {}),
    ("Trilu", [INTS, np.array(1)], {}),
    ("Trilu", [INTS], {"upper": 0}),
]  # fmt: skip


def node(op: str, inputs: Sequence[Any], outputs: int, attributes: dict[str, Any]) -> ir.Node:
    proto = helper.make_node(op, [f"i{k}" for k in range(len(inputs))],
                             [f"o{k}" for k in range(outputs)], **attributes)  # fmt: skip
    return ir.serde.deserialize_node(proto)


@pytest.mark.parametrize(("op", "inputs", "attributes"), CASES, ids=lambda v: str(v)[:24])
def test_evaluators_agree_with_the_reference(
    op: str, inputs: Sequence[np.ndarray], attributes: dict[str, Any]
) -> None:
    outputs = 2 if op == "Split" else 1
    graph = helper.make_graph(
        [helper.make_node(op, [f"i{k}" for k in range(len(inputs))],
                          [f"o{k}" for k in range(outputs)], **attributes)],
        "one",
        [helper.make_tensor_value_info(
            f"i{k}", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
         for k, x in enumerate(inputs)],
        [onnx.ValueInfoProto(name=f"o{k}") for k in range(outputs)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    want = ReferenceEvaluator(model).run(None, {f"i{k}": x for k, x in enumerate(inputs)})
    got = evaluate(node(op, inputs, outputs, attributes), inputs, [x.shape for x in inputs])
    assert got is not None
    for a, b in zip(want, got, strict=True):
        np.testing.assert_array_equal(b, a)
        assert b.dtype == a.dtype


def test_every_evaluator_is_compared() -> None:
    assert {op for op, _, _ in CASES} == set(EVALUATORS)


def test_a_shape_needs_no_contents() -> None:
    (shape,) = evaluate(node("Shape", [0], 1, {}), [None], [(2, 3)]) or ()
    assert shape.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Add", [None, ints(1)], {}),
        ("Conv", [ints(1), ints(1)], {}),
        ("Reshape", [INTS, ints(5, 5)], {}),
        ("Gather", [INTS, ints(9)], {}),
        ("ConstantOfShape", [ints(1000, 1000)], {}),
        ("Expand", [INTS[0], ints(100000, 3)], {}),
        ("Range", [np.array(0), np.array(10**6), np.array(1)], {}),
        ("Tile", [INTS, ints(10**6, 1)], {}),
        ("CumSum", [INTS, np.array(1)], {"reverse": 1}),
        ("GatherND", [INTS, np.array([[1], [0]])], {"batch_dims": 1}),
        ("ScatterND", [INTS, np.array([[0]]), INTS[:1]], {"reduction": "add"}),
        ("ScatterElements", [INTS, np.array([[0]]), INTS[:1, :1]], {"reduction": "add"}),
    ],
)
def test_what_cannot_be_known_is_none(op: str, inputs: list[Any], attributes: dict) -> None:
    shapes = [None if x is None else x.shape for x in inputs]
    assert evaluate(node(op, inputs, 1, attributes), inputs, shapes) is None


def test_an_unknown_shape_is_none() -> None:
    assert evaluate(node("Shape", [0], 1, {}), [None], [None]) is None
    assert evaluate(node("Size", [0], 1, {}), [None], [None]) is None


def test_an_operator_of_another_domain_is_none() -> None:
    other = node("Add", [1, 2], 1, {})
    other.domain = "com.example"
    assert evaluate(other, [ints(1), ints(2)], [(1,), (1,)]) is None

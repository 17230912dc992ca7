from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.passes.recovery.forms import FORMS, form_of
from prunec.runtime.session import make_session

pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(0)

# (operator, shape of the data, shape of the weight, where the weight stands, attributes)
Case = tuple[str, tuple[int, ...], tuple[int, ...], int, dict[str, Any]]
CASES: dict[str, Case] = {
    "conv 2d": ("Conv", (2, 4, 7, 6), (5, 4, 3, 3), 1, {"pads": [1, 1, 1, 1]}),
    "strides": ("Conv", (2, 4, 9, 8), (5, 4, 3, 2), 1, {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    "dilations": ("Conv", (2, 4, 9, 9), (3, 4, 3, 3), 1, {"dilations": [2, 3]}),
    "groups": ("Conv", (2, 6, 5, 5), (4, 3, 3, 3), 1, {"group": 2}),
    "depthwise": ("Conv", (2, 3, 5, 5), (6, 1, 3, 3), 1, {"group": 3, "pads": [1, 1, 1, 1]}),
    "1d": ("Conv", (2, 4, 9), (5, 4, 3), 1, {"pads": [2, 1]}),
    "3d": ("Conv", (2, 2, 4, 5, 3), (3, 2, 2, 3, 1), 1, {"pads": [1, 1, 0, 0, 1, 0]}),
    "same upper": ("Conv", (1, 2, 6, 7), (3, 2, 3, 4), 1, {"auto_pad": "SAME_UPPER"}),
    "same lower": (
        "Conv", (1, 2, 7, 8), (3, 2, 2, 4), 1, {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    ),
    "valid": ("Conv", (1, 2, 7, 8), (3, 2, 2, 4), 1, {"auto_pad": "VALID"}),
    "transposed": ("ConvTranspose", (2, 4, 3, 4), (4, 5, 3, 2), 1, {"strides": [2, 3]}),
    "transposed, pads": (
        "ConvTranspose", (2, 4, 4, 4), (4, 3, 4, 4), 1,
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]},
    ),
    "transposed, groups": (
        "ConvTranspose", (2, 4, 5), (4, 3, 3), 1, {"group": 2, "dilations": [2]},
    ),
    "transposed, depthwise": ("ConvTranspose", (2, 4, 5), (4, 1, 3), 1, {"group": 4}),
    "transposed, same": (
        "ConvTranspose", (1, 2, 5, 5), (2, 3, 4, 3), 1,
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ),
    "transposed, output shape": (
        "ConvTranspose", (1, 2, 5), (2, 3, 4), 1, {"output_shape": [9], "strides": [2]},
    ),
    "gemm": ("Gemm", (5, 4), (4, 3), 1, {"alpha": 0.5}),
    "gemm, transB": ("Gemm", (5, 4), (3, 4), 1, {"transB": 1, "alpha": 2.0}),
    "gemm, transA": ("Gemm", (4, 5), (4, 3), 1, {"transA": 1}),
    "gemm, left": ("Gemm", (4, 5), (3, 4), 0, {}),
    "gemm, left, both turned": ("Gemm", (5, 4), (4, 3), 0, {"transA": 1, "transB": 1}),
    "matmul": ("MatMul", (2, 5, 4), (4, 3), 1, {}),
    "matmul, left": ("MatMul", (2, 4, 5), (3, 4), 0, {}),
}  # fmt: skip


def run(case: Case) -> tuple[ir.Node, np.ndarray, np.ndarray, np.ndarray]:
    """The node, its data, its weight and what onnxruntime makes of them."""
    op, shape, weight_shape, position, attributes = case
    x, w = (RNG.standard_normal(s).astype(np.float32) for s in (shape, weight_shape))
    names = ["x", "w"] if position else ["w", "x"]
    node = helper.make_node(op, names, ["y"], "node", **attributes)
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (y,) = make_session(proto.SerializeToString()).run({"x": x})
    return next(iter(ir.from_proto(proto).graph)), x, w, y


@pytest.mark.parametrize("name", CASES)
def test_rows_times_the_matrix_are_the_outputs(name: str) -> None:
    node, x, w, y = run(CASES[name])
    form = form_of(node, CASES[name][3], w.shape)
    assert form is not None
    places = np.arange(form.places(y.shape)[0])[::2]
    rows, matrix = form.rows(x, y.shape, places), form.matrix(w)
    np.testing.assert_allclose(rows @ matrix, form.outputs(y, places), atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_matrix_is_stored_as_it_was_read(name: str) -> None:
    node, _, w, _ = run(CASES[name])
    form = form_of(node, CASES[name][3], w.shape)
    assert form is not None
    np.testing.assert_allclose(form.stored(form.matrix(w), w.shape), w, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_columns_know_their_channels(name: str) -> None:
    node, x, w, y = run(CASES[name])
    form = form_of(node, CASES[name][3], w.shape)
    assert form is not None
    axis = form.source_axis % x.ndim
    channels = x.shape[axis]
    numbers = np.arange(1.0, channels + 1).reshape([-1 if k == axis else 1 for k in range(x.ndim)])
    rows = form.rows(np.broadcast_to(numbers, x.shape), y.shape, np.arange(form.places(y.shape)[0]))
    sources = form.sources(channels, rows.shape[2])
    # Every row holds the number of the channel, or 0 where padding is read.
    assert np.isin(rows, [0, *range(1, channels + 1)]).all()
    assert ((rows == 0) | (rows == sources[:, None] + 1)).all()
    assert set(sources.ravel().tolist()) == set(range(channels))


def test_every_row_of_the_table_is_tried() -> None:
    assert set(FORMS) == {case[0] for case in CASES.values()}


def test_stacks_of_matrices_have_no_form() -> None:
    node = ir.node("MatMul", [ir.Value(name="x"), ir.Value(name="w")])
    assert form_of(node, 1, (2, 3, 4)) is None

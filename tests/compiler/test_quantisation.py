"""Grids give the integers and values that ONNX says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from prunec.compiler.quantisation import Grid

TYPES = {
    (4, True): TensorProto.INT4,
    (4, False): TensorProto.UINT4,
    (8, True): TensorProto.INT8,
    (8, False): TensorProto.UINT8,
    (16, True): TensorProto.INT16,
    (16, False): TensorProto.UINT16,
}
RNG = np.random.default_rng(0)
SHAPE = (4, 6, 5)


def grid_of(bits: int, signed: bool, axis: int | None, block: int) -> Grid:
    shape: list[int] = [1]
    if axis is not None:
        shape = [SHAPE[axis]]
    if axis is not None and block:
        shape = list(SHAPE)
        shape[axis] //= block
    low = -(2 ** (bits - 1)) if signed else 0
    zero = RNG.integers(low, low + 2**bits, shape)
    return Grid(bits, signed, RNG.uniform(0.01, 0.1, shape).astype(np.float32), zero, axis, block)


def model_of(grid: Grid) -> onnx.ModelProto:
    kind = TYPES[grid.bits, grid.signed]
    shape = () if grid.axis is None else grid.scale.shape
    how: dict[str, Any] = {} if grid.axis is None else {"axis": grid.axis}
    how |= {"block_size": grid.block} if grid.block else {}
    scale = numpy_helper.from_array(grid.scale.reshape(shape), "s")
    zero = helper.make_tensor("z", kind, shape, grid.zero.reshape(-1).tolist())
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **how),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **how),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)],
        [scale, zero],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize(("bits", "signed"), TYPES)
def test_values_are_those_of_onnxruntime(bits: int, signed: bool, axis: int | None) -> None:
    ort = pytest.importorskip("onnxruntime")
    for block in (0, 2, 3) if axis == 1 else (0,):
        grid = grid_of(bits, signed, axis, block)
        x = RNG.normal(0, 2, SHAPE).astype(np.float32)
        x[0] = 1e6  # onnxruntime wraps what is beyond 2^31 steps, at 16 bits
        data = model_of(grid).SerializeToString()
        session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
        np.testing.assert_array_equal(grid.fake(x), session.run(None, {"x": x})[0])


def test_values_are_those_of_the_reference() -> None:
    grid = grid_of(8, False, 1, 0)
    x = RNG.normal(0, 2, SHAPE).astype(np.float32)
    (expected,) = ReferenceEvaluator(model_of(grid)).run(None, {"x": x})
    np.testing.assert_array_equal(grid.fake(x), expected)


def test_halves_go_to_the_even_integer_and_all_else_saturates() -> None:
    grid = Grid(3, True, np.float32([0.5]), np.array([1]))
    assert (grid.low, grid.high, grid.stored) == (-4, 3, 4)
    x = np.array([-9, -1.25, -0.75, -0.25, 0.25, 0.75, 9])
    assert grid.codes(x).tolist() == [-4, -1, -1, 1, 1, 3, 3]
    low, high = grid.covers()
    assert (low.tolist(), high.tolist()) == ([-2.5], [1.0])


def test_the_last_block_may_be_short() -> None:
    scale = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    grid = Grid(4, True, scale, np.zeros((2, 3), int), 1, 2)
    spread, _ = grid.spread((2, 5))
    assert spread.tolist() == [[1, 1, 2, 2, 3], [4, 4, 5, 5, 6]]


@pytest.mark.parametrize(
    ("bits", "scale", "zero", "axis"),
    [
        (1, [1.0], [0], None),
        (17, [1.0], [0], None),
        (4, [0.0], [0], None),
        (4, [np.inf], [0], None),
        (4, [1.0], [8], None),
        (4, [1.0, 1.0], [0, 0], None),
        (4, [1.0, 1.0], [0], 0),
    ],
)
def test_a_grid_that_no_tensor_can_have_is_refused(
    bits: int, scale: list[float], zero: list[int], axis: int | None
) -> None:
    with pytest.raises(AssertionError):
        Grid(bits, True, np.float32(scale), np.array(zero), axis)


def test_the_numbers_of_a_grid_are_its_own() -> None:
    scale = np.float32([1.0])
    grid = Grid(4, True, scale, np.array([0]))
    scale[0] = 2
    assert grid.scale[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        grid.scale[0] = 2

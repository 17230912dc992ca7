from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.encoding import Encoding
from prunec.passes.decode import contents_of, decoded, integer_range, levels, unpacked


def read(array: Any, encoding: Encoding, tensors: Mapping[str, Any], **kw: Any) -> np.ndarray:
    known = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    return decoded(np.asarray(array), encoding, known.get, **kw)


W = np.arange(-4, 4, dtype=np.int8).reshape(2, 4)


def test_one_scale_and_zero_point_for_all() -> None:
    got = read(W, Encoding(("s",), "z"), {"s": np.float32(0.5), "z": np.int8(1)})
    assert np.array_equal(got, (W - 1) * 0.5)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_scale_for_each_index_of_an_axis(axis: int) -> None:
    scale = np.arange(1, W.shape[axis] + 1, dtype=np.float32)
    got = read(W, Encoding(("s",), "", axis), {"s": scale})
    assert np.array_equal(got, W * (scale[:, None] if axis == 0 else scale))


def test_rows_are_cut_with_their_scales() -> None:
    scale = np.array([1, 10], np.float32)
    got = read(W, Encoding(("s",)), {"s": scale}, rows=slice(1, 2))
    assert np.array_equal(got, W[1:] * 10)


def test_scales_multiply() -> None:
    got = read(W, Encoding(("x", "w")), {"x": np.float32(2), "w": np.array([1, 3], np.float32)})
    assert np.array_equal(got, W * np.array([[2], [6]]))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_scale_for_each_block(axis: int) -> None:
    array = np.ones((5, 5), np.int8)
    scale = np.array([[1.0, 2.0, 3.0]] * 5, np.float32)
    scale = scale if axis else scale.T
    got = read(array, Encoding(("s",), "", axis, 2), {"s": scale})
    assert np.array_equal(got if axis else got.T, [[1, 1, 2, 2, 3]] * 5)


def test_a_scale_that_is_computed_counts_as_one_step_of_the_type() -> None:
    assert read(np.int8([64]), Encoding(), {})[0] == 0.5
    assert read(np.array([4], ml_dtypes.int4), Encoding(), {})[0] == 0.5


def test_bits_are_unpacked_lowest_first() -> None:
    assert unpacked(np.uint8([0x21, 0xF0]), 4).tolist() == [[1, 2], [0, 15]]
    assert unpacked(np.uint8([0b11100100]), 2).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("flat", [False, True])
def test_packed_blocks_of_rows(flat: bool) -> None:
    """2 rows of 3 blocks of 2 bytes, the zero points of a row in 2 bytes."""
    array = np.full((2, 3, 2), 0x42, np.uint8)
    zero = np.uint8([[0x21, 0x03], [0x00, 0x0F]])
    scale = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    tensors = {"s": scale.reshape(-1) if flat else scale, "z": zero}
    if flat:
        tensors["z"] = np.uint8([[1, 2, 3], [0, 0, 15]]).astype(np.float32).reshape(-1)
    got = read(array, Encoding(("s",), "z", bits=4, middle=8), tensors)
    assert got.shape == (2, 3, 2, 2)
    assert got[0, :, 0].tolist() == [[1, 3], [0, 4], [-3, 3]]
    assert got[1, :, 1].tolist() == [[8, 16], [10, 20], [-78, -66]]


def test_without_zero_points_the_middle_is_zero() -> None:
    got = read(np.full((1, 1, 1), 0x98, np.uint8), Encoding(("s",), bits=4, middle=8), {"s": 1.0})
    assert got.reshape(-1).tolist() == [0, 1]


def test_levels_broadcast_over_the_weight() -> None:
    zero = levels((2, 4), Encoding(("s",), "z", 1), {"z": np.uint8([1, 2, 3, 4])}.get)
    assert np.broadcast_to(zero, (2, 4)).tolist() == [[1, 2, 3, 4]] * 2


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("i1", (-128, 127)), ("u1", (0, 255)), (ml_dtypes.int4, (-8, 7)), (ml_dtypes.uint4, (0, 15))],
)
def test_ranges_of_integers(dtype: Any, expected: tuple[int, int]) -> None:
    assert integer_range(np.dtype(dtype)) == expected


def test_contents_are_found_in_initializers_and_constants() -> None:
    value = ir.Value(name="w", const_value=ir.tensor(W))
    constant = ir.Node(
        "", "Constant", [], [ir.AttrTensor("value", ir.tensor(W + 1))], num_outputs=1
    )
    constant.outputs[0].name = "c"
    graph = ir.Graph([], [], nodes=[constant], initializers=[value], opset_imports={"": 21})
    look = contents_of(ir.Model(graph, ir_version=10))
    assert np.array_equal(look("w"), W)
    assert np.array_equal(look("c"), W + 1)
    assert look("other") is None

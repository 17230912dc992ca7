from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from properties.builder import Builder
from properties.oracle import analyse

from prunec.compiler.encoding import Encoding, Zero, followed_back


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (Zero("a", None), Zero("a", None), True),
        (Zero("a", None), Zero("b", None), False),
        (Zero("a", np.uint8(3)), Zero("b", np.array([3, 3])), True),
        (Zero("a", np.uint8(3)), Zero("b", np.uint8(4)), False),
        (Zero("a", np.array([3, 4])), Zero("b", np.array([3, 4])), False),
        (Zero("", None), Zero("b", np.uint8(0)), True),
        (Zero("", None), Zero("b", np.uint8(1)), False),
    ],
)
def test_two_zeros_agree_when_they_are_one_integer(left: Zero, right: Zero, same: bool) -> None:
    assert left.agrees(right) == same
    assert right.agrees(left) == same


@pytest.mark.parametrize(("bits", "packing"), [(0, 1), (8, 1), (4, 2), (2, 4)])
def test_packing_is_elements_per_byte(bits: int, packing: int) -> None:
    assert Encoding(bits=bits).packing == packing


def chain(*moves: ir.Node) -> tuple[list[ir.Node], ir.Node]:
    """The moves, and a node that reads the last of them as a weight."""
    reader = ir.Node("", "Reader", [moves[-1].outputs[0]], name="reader")
    return [*moves, reader], reader


def move(op: str, source: ir.Value, *attributes: ir.Attr) -> ir.Node:
    node = ir.Node("", op, [source], attributes, name=op)
    node.outputs[0].name = f"{op}.out"
    return node


def test_a_transpose_takes_the_axis_of_the_scales_along() -> None:
    stored = ir.Value(name="w")
    nodes, _ = chain(move("Transpose", stored, ir.AttrInt64s("perm", [1, 2, 0])))
    found = followed_back(nodes, {("reader", 0): Encoding(("s",), "z", axis=0)})
    assert found["Transpose.out"].axis == 0
    assert found["w"] == Encoding(("s",), "z", axis=1)


def test_behind_a_reshape_a_weight_is_one_without_scales() -> None:
    stored = ir.Value(name="w")
    nodes, _ = chain(move("Reshape", stored))
    assert followed_back(nodes, {("reader", 0): Encoding(("s",))})["w"] == Encoding()


def test_what_is_computed_otherwise_is_not_followed() -> None:
    stored = ir.Value(name="w")
    nodes, _ = chain(move("Relu", stored))
    assert "w" not in followed_back(nodes, {("reader", 0): Encoding(("s",))})


@pytest.mark.parametrize("same", [True, False])
def test_integers_keep_the_zero_of_all_that_they_are_made_of(same: bool) -> None:
    b = Builder(0, 17, batch=1)
    x, scale = b.input(1, 3, 2, 2), b.store(np.float32(1))
    zeros = [b.store(np.uint8(5)), b.store(np.uint8(5 if same else 6))]
    parts = [b.add("QuantizeLinear", [x, scale, zero]) for zero in zeros]
    both = b.add("Concat", parts, (1, 6, 2, 2), axis=1)
    b.output(b.add("DequantizeLinear", [both, scale, zeros[0]]))
    known = analyse(b.model()).graph.zeros
    assert [known[part] for part in parts] == zeros
    assert known.get(both) == (zeros[0] if same else None)

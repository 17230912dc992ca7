from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sites import Ran, run

from prunec.compiler.reasons import Reason
from prunec.compiler.site import Unsupported

IMAGE, WEIGHT = (2, 4, 8, 8), (6, 4, 3, 3)
UNIT: tuple[int, ...] = ()


def reasons(ran: Ran) -> set[Reason | None]:
    return {tie.barrier for tie in ran.c.ties if tie.barrier}


@pytest.mark.parametrize(
    "op",
    [
        "QuantizeLinear",
        "DequantizeLinear",
        "com.microsoft::QuantizeLinear",
        "com.microsoft::DequantizeLinear",
    ],
)
def test_scales_and_zero_points_follow_their_axis(op: str) -> None:
    ran = run(op, [IMAGE, (4,), (4,)], [IMAGE], axis=-3)
    x, scale, zero = ran.ins
    assert ran.outs[0] == x
    assert ran.tied(scale[0], x[1])
    assert ran.tied(zero[0], x[1])
    assert {(node, k) for node, k in ran.c.auxiliary} == {("node", 1), ("node", 2)}


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_scale_for_all_ties_nothing(shape: tuple[int, ...]) -> None:
    assert run("DequantizeLinear", [IMAGE, shape, shape], [IMAGE]).c.ties == []


def test_quantize_says_which_integer_is_zero() -> None:
    assert run("QuantizeLinear", [IMAGE, (), ()], [IMAGE]).c.zeros == {("node", 0): "i2"}
    assert run("QuantizeLinear", [IMAGE, ()], [IMAGE]).c.zeros == {("node", 0): ""}


def test_a_zero_for_each_channel_is_no_single_integer() -> None:
    assert run("QuantizeLinear", [IMAGE, (4,), (4,)], [IMAGE]).c.zeros == {}


def test_dequantize_marks_a_weight() -> None:
    ran = run("DequantizeLinear", [WEIGHT, (6,), (6,)], [WEIGHT], axis=0, weights=[0])
    encoding = ran.c.encodings["node", 0]
    assert (encoding.scales, encoding.zero, encoding.axis) == (("i1",), "i2", 0)


def test_channels_that_share_a_scale_leave_together() -> None:
    ran = run("DequantizeLinear", [(8, 6), (4, 6), (4, 6)], [(8, 6)], axis=0, block_size=2)
    x, scale, _ = ran.ins
    assert ran.tied(x[0].reshape(4, 2), scale[0][:, None])
    assert ran.tied(scale[1], x[1])


def test_a_block_that_is_not_full_stays() -> None:
    ran = run("DequantizeLinear", [(7, 6), (3, 6)], [(7, 6)], axis=0, block_size=3)
    x, scale = ran.ins
    assert ran.tied(x[0][:6].reshape(2, 3), scale[0][:2, None])
    assert ran.frozen(x[0][6:])
    assert reasons(ran) == {Reason.PACKED_BLOCK}


def test_a_single_block_may_have_any_size() -> None:
    ran = run("DequantizeLinear", [(8, 6), (1, 6)], [(8, 6)], axis=0, block_size=8)
    assert ran.apart(ran.ins[0][0])


def test_scales_of_a_shape_that_says_nothing_are_refused() -> None:
    with pytest.raises(Unsupported, match="block_size"):
        run("DequantizeLinear", [(8, 6), (4, 6)], [(8, 6)], axis=0)


def test_dynamic_quantize_passes_the_channels_on() -> None:
    ran = run("DynamicQuantizeLinear", [IMAGE], [IMAGE, (), ()])
    assert ran.outs[0] == ran.ins[0]
    assert ran.c.zeros == {("node", 0): "o2"}


def qlinear_conv(**options: Any) -> Ran:
    shapes = [IMAGE, (), (), WEIGHT, (6,), (6,), (), (), (6,)]
    given = {"integers": {0: "i2", 3: None, 8: None}, "weights": [3, 8], **options}
    return run("QLinearConv", shapes, [(2, 6, 8, 8)], **given)


def test_qlinear_conv_is_a_conv_of_its_operands() -> None:
    ran = qlinear_conv()
    x, w, ws, wz, bias = (ran.ins[k] for k in (0, 3, 4, 5, 8))
    assert ran.tied(x[1], w[1])
    assert ran.outs[0][1] is w[0]
    for vector in (ws, wz, bias):
        assert ran.tied(vector[0], w[0])
    assert any(freed is w[0] for freed in ran.c.freed)
    ((scale, axes),) = ran.c.products
    assert scale * np.prod([len(a) for a in axes]) == 2 * 6 * 64 * 4 * 9


def test_qlinear_conv_names_the_zero_of_its_result() -> None:
    assert qlinear_conv().c.zeros == {("node", 0): "i7"}


def test_the_scale_of_a_bias_is_that_of_input_times_weight() -> None:
    assert qlinear_conv().c.encodings["node", 8].scales == ("i1", "i4")


@pytest.mark.parametrize("zero", [None, "another"])
def test_integers_of_which_zero_is_not_known_stay(zero: str | None) -> None:
    ran = qlinear_conv(integers={0: zero, 3: None, 8: None})
    assert ran.frozen(ran.ins[0][1])
    assert not ran.frozen(ran.outs[0][1])
    assert Reason.UNSUPPORTED_FORM in reasons(ran)


def test_qlinear_conv_with_channels_last() -> None:
    shapes = [(2, 8, 8, 4), (), (), WEIGHT, (6,), (6,), (), ()]
    op = "com.microsoft::QLinearConv"
    ran = run(op, shapes, [(2, 8, 8, 6)], integers={0: "i2", 3: None}, weights=[3], channels_last=1)
    assert ran.tied(ran.ins[0][3], ran.ins[3][1])
    assert ran.outs[0][3] is ran.ins[3][0]


def test_conv_integer_sums_into_integers_whose_zero_is_zero() -> None:
    shapes = [IMAGE, WEIGHT, (), (6,)]
    ran = run("ConvInteger", shapes, [(2, 6, 8, 8)], integers={0: "i2", 1: None}, weights=[1])
    assert ran.tied(ran.ins[0][1], ran.ins[1][1])
    assert ran.tied(ran.ins[3][0], ran.ins[1][0])
    assert ran.c.zeros == {("node", 0): ""}


def test_an_absent_zero_point_is_zero() -> None:
    for zero, stays in (("", False), ("other", True)):
        given = {"integers": {0: zero, 1: None}, "weights": [1]}
        ran = run("ConvInteger", [IMAGE, WEIGHT], [(2, 6, 8, 8)], **given)
        assert ran.frozen(ran.ins[0][1]) == stays


@pytest.mark.parametrize("vector", [(5,), (1, 5)])
def test_qlinear_matmul_ties_scales_to_columns(vector: tuple[int, ...]) -> None:
    shapes = [(3, 4), (), (), (4, 5), vector, vector, (), ()]
    ran = run("QLinearMatMul", shapes, [(3, 5)], integers={0: "i2", 3: None}, weights=[3])
    a, b, scale, zero = (ran.ins[k] for k in (0, 3, 4, 5))
    assert ran.tied(a[1], b[0])
    assert ran.tied(scale[-1], b[1])
    assert ran.tied(zero[-1], b[1])


def test_qlinear_matmul_ties_scales_to_rows() -> None:
    shapes = [(3, 4), (3,), (3,), (4, 5), (), (), (), ()]
    ran = run("QLinearMatMul", shapes, [(3, 5)], integers={0: None, 3: "i5"}, weights=[0])
    assert ran.tied(ran.ins[1][0], ran.ins[0][0])
    assert ran.tied(ran.ins[0][1], ran.ins[3][0])


def test_scales_of_another_rank_are_refused() -> None:
    shapes = [(3, 4), (), (), (4, 5), (1, 1, 5), (), (), ()]
    with pytest.raises(Unsupported, match="rank 3"):
        run("QLinearMatMul", shapes, [(3, 5)], integers={0: "i2", 3: None}, weights=[3])


def test_matmul_integer_ties_the_summed_axes() -> None:
    shapes = [(3, 4), (4, 5), (), (5,)]
    ran = run("MatMulInteger", shapes, [(3, 5)], integers={0: "i2", 1: None}, weights=[1])
    assert ran.tied(ran.ins[0][1], ran.ins[1][0])
    assert ran.tied(ran.ins[3][0], ran.ins[1][1])
    ((scale, axes),) = ran.c.products
    assert scale * np.prod([len(a) for a in axes]) == 3 * 4 * 5


def test_matmul_integer_to_float_ties_scales_and_bias() -> None:
    shapes = [(3, 4), (4, 5), (), (5,), (), (5,), (5,)]
    op = "com.microsoft::MatMulIntegerToFloat"
    ran = run(op, shapes, [(3, 5)], integers={0: "i4", 1: None}, weights=[1])
    assert ran.tied(ran.ins[0][1], ran.ins[1][0])
    for k in (3, 5, 6):
        assert ran.tied(ran.ins[k][0], ran.outs[0][1])


def test_dynamic_quantize_matmul_reads_floats() -> None:
    shapes = [(3, 4), (4, 5), (5,), (5,), (5,)]
    ran = run(
        "com.microsoft::DynamicQuantizeMatMul", shapes, [(3, 5)], integers={1: None}, weights=[1]
    )
    assert ran.tied(ran.ins[0][1], ran.ins[1][0])
    for k in (2, 3, 4):
        assert ran.tied(ran.ins[k][0], ran.outs[0][1])


@pytest.mark.parametrize("trans_b", [0, 1])
def test_qgemm_ties_scales_and_bias_to_columns(trans_b: int) -> None:
    b = (5, 4) if trans_b else (4, 5)
    shapes = [(3, 4), (), (), b, (5,), (5,), (5,), (), ()]
    op = "com.microsoft::QGemm"
    ran = run(op, shapes, [(3, 5)], integers={0: "i2", 3: None}, weights=[3], transB=trans_b)
    assert ran.tied(ran.ins[0][1], ran.ins[3][trans_b])
    for k in (4, 5, 6):
        assert ran.tied(ran.ins[k][0], ran.outs[0][1])
    assert ran.c.zeros == {("node", 0): "i8"}


def test_qgemm_without_an_output_scale_gives_floats() -> None:
    shapes = [(3, 4), (), (), (4, 5), (), ()]
    ran = run("com.microsoft::QGemm", shapes, [(3, 5)], integers={0: "i2", 3: None}, weights=[3])
    assert ran.c.zeros == {}

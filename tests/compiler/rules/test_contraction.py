from __future__ import annotations

import numpy as np
import pytest
from sites import labels, run, run_on

from prunec.compiler.labels import Coupler
from prunec.compiler.site import Unsupported

IMAGE = (2, 4, 8, 8)


def test_conv_ties_its_input_to_axis_1_of_the_weight() -> None:
    ran = run("Conv", [IMAGE, (6, 4, 3, 3)], [(2, 6, 8, 8)], weights=[1])
    x, w = ran.ins
    assert ran.tied(x[1], w[1])
    assert ran.apart([*x[1], *w[0]])


def test_conv_puts_out_and_frees_axis_0_of_its_weight() -> None:
    ran = run("Conv", [IMAGE, (6, 4, 3, 3)], [(2, 6, 8, 8)], weights=[1])
    assert ran.outs[0][1] is ran.ins[1][0]
    assert any(freed is ran.ins[1][0] for freed in ran.c.freed)


def test_conv_with_a_computed_weight_frees_nothing() -> None:
    assert run("Conv", [IMAGE, (6, 4, 3, 3)], [(2, 6, 8, 8)]).c.freed == []


def test_conv_freezes_batch_space_and_kernel() -> None:
    ran = run("Conv", [IMAGE, (6, 4, 3, 3)], [(2, 6, 8, 8)])
    x, w = ran.ins
    assert all(ran.frozen(a) for a in (x[0], *x[2:], *w[2:]))


def test_conv_bias_follows_the_output() -> None:
    ran = run("Conv", [IMAGE, (6, 4, 1, 1), (6,)], [(2, 6, 8, 8)])
    assert ran.tied(ran.ins[2][0], ran.ins[1][0])


def test_conv_accepts_an_absent_bias() -> None:
    run("Conv", [IMAGE, (6, 4, 1, 1), None], [(2, 6, 8, 8)])


def test_conv_counts_multiply_accumulates_without_bias() -> None:
    ran = run("Conv", [IMAGE, (6, 4, 3, 3), (6,)], [(2, 6, 8, 8)])
    ((scale, axes),) = ran.c.products
    assert scale * np.prod([len(a) for a in axes]) == 2 * 6 * 64 * 4 * 9


def test_conv_reads_its_input_channels() -> None:
    ran = run("Conv", [IMAGE, (6, 4, 1, 1)], [(2, 6, 8, 8)])
    assert any(read is ran.ins[0][1] for read in ran.c.reads)


def test_depthwise_conv_ties_a_channel_to_all_of_its_outputs() -> None:
    ran = run("Conv", [IMAGE, (8, 1, 3, 3)], [(2, 8, 8, 8)], group=4)
    assert ran.tied(ran.ins[1][0].reshape(4, 2), ran.ins[0][1][:, None])
    assert ran.apart(ran.ins[0][1])


def test_depthwise_conv_shrinks_its_group_attribute() -> None:
    (patch,) = run("Conv", [IMAGE, (4, 1, 3, 3)], [IMAGE], group=4).c.patches
    assert (patch.key, patch.value, patch.scalar) == ("group", (4,), True)


def test_grouped_conv_removes_the_same_position_of_every_group() -> None:
    ran = run("Conv", [IMAGE, (6, 2, 1, 1)], [(2, 6, 8, 8)], group=2)
    x, w = ran.ins
    assert ran.tied(x[1].reshape(2, 2), w[1])
    assert ran.tied(w[0][:3], w[0][3:])
    assert ran.apart([*w[0][:3], *w[1]])
    assert ran.c.patches == []


@pytest.mark.parametrize("space", [(8,), (4, 4, 4)])
def test_conv_of_any_rank_keeps_its_channels(space: tuple[int, ...]) -> None:
    ran = run("Conv", [(1, 4, *space), (6, 4, *[3] * len(space))], [(1, 6, *space)])
    assert ran.outs[0][1] is ran.ins[1][0]


def test_conv_transpose_sums_over_axis_0_of_its_weight() -> None:
    ran = run("ConvTranspose", [IMAGE, (4, 6, 2, 2), (6,)], [(2, 6, 16, 16)], weights=[1, 2])
    x, w, b = ran.ins
    assert ran.tied(x[1], w[0])
    assert ran.tied(b[0], w[1])
    assert ran.outs[0][1] is w[1]


def test_conv_transpose_counts_input_positions() -> None:
    ran = run("ConvTranspose", [IMAGE, (4, 6, 2, 2)], [(2, 6, 16, 16)])
    ((scale, axes),) = ran.c.products
    assert scale * np.prod([len(a) for a in axes]) == 2 * 4 * 64 * 6 * 4


def test_grouped_conv_transpose_repeats_its_output_positions() -> None:
    ran = run("ConvTranspose", [IMAGE, (4, 3, 2, 2)], [(2, 6, 16, 16)], group=2, weights=[1])
    w = ran.ins[1]
    assert ran.tied(ran.outs[0][1].reshape(2, 3), w[1])
    assert ran.tied(w[0][:2], w[0][2:])


def test_depthwise_conv_transpose_outputs_follow_their_channel() -> None:
    ran = run("ConvTranspose", [IMAGE, (4, 2, 2, 2)], [(2, 8, 16, 16)], group=4, weights=[1])
    assert ran.tied(ran.outs[0][1].reshape(4, 2), ran.ins[1][0][:, None])
    assert ran.frozen(ran.ins[1][1])
    assert [p.key for p in ran.c.patches] == ["group"]


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm_ties_the_summed_axes(trans_a: int, trans_b: int) -> None:
    a, b = ((3, 5), (2, 3))[trans_a], ((5, 7), (7, 5))[trans_b]
    a = (5, 3) if trans_a else (3, 5)
    ran = run("Gemm", [a, b], [(3, 7)], transA=trans_a, transB=trans_b, weights=[1])
    assert ran.tied(ran.ins[0][1 - trans_a], ran.ins[1][trans_b])
    assert ran.outs[0][1] is ran.ins[1][1 - trans_b]


@pytest.mark.parametrize("shape", [(7,), (1, 7), (3, 7)])
def test_gemm_bias_follows_the_columns(shape: tuple[int, ...]) -> None:
    ran = run("Gemm", [(3, 5), (5, 7), shape], [(3, 7)])
    assert ran.tied(ran.ins[2][-1], ran.outs[0][1])


@pytest.mark.parametrize("shape", [(), (1,), (3, 1)])
def test_gemm_bias_that_broadcasts_leaves_the_columns_alone(shape: tuple[int, ...]) -> None:
    ran = run("Gemm", [(3, 5), (5, 7), shape], [(3, 7)])
    assert ran.apart(ran.outs[0][1])


def test_a_product_of_two_weights_keeps_its_inner_axis() -> None:
    ran = run("MatMul", [(3, 5), (5, 7)], [(3, 7)], weights=[0, 1])
    assert ran.frozen(ran.ins[0][1])
    assert ran.apart([*ran.outs[0][0], *ran.outs[0][1]])


def test_matmul_frees_the_rows_of_a_weight_on_the_left() -> None:
    ran = run("MatMul", [(3, 5), (2, 5, 7)], [(2, 3, 7)], weights=[0])
    assert any(freed is ran.ins[0][0] for freed in ran.c.freed)


def test_matmul_ties_its_batch_axes() -> None:
    ran = run("MatMul", [(4, 3, 5), (4, 5, 7)], [(4, 3, 7)])
    assert ran.tied(ran.ins[0][0], ran.ins[1][0])


@pytest.mark.parametrize(
    ("a", "b", "out"), [((5,), (5, 7), (7,)), ((3, 5), (5,), (3,)), ((5,), (5,), ())]
)
def test_matmul_takes_vectors(a: tuple[int, ...], b: tuple[int, ...], out: tuple[int, ...]) -> None:
    ran = run("MatMul", [a, b], [out])
    assert ran.tied(ran.ins[0][-1], ran.ins[1][0])


def test_matmul_of_a_vector_keeps_the_batch() -> None:
    ran = run("MatMul", [(5,), (2, 5, 7)], [(2, 7)])
    assert ran.tied(ran.outs[0][1], ran.ins[1][2])
    assert ran.tied(ran.outs[0][0], ran.ins[1][0])


def test_einsum_ties_equal_letters() -> None:
    ran = run("Einsum", [(2, 3), (4, 3)], [(2, 4)], equation="ab,cb->ac", weights=[1])
    assert ran.tied(ran.ins[0][1], ran.ins[1][1])
    assert any(freed is ran.ins[1][0] for freed in ran.c.freed)


def test_einsum_without_arrow_sorts_the_letters_that_appear_once() -> None:
    ran = run("Einsum", [(2, 3), (3, 4)], [(4, 2)], equation="bj,ja")
    assert ran.outs[0][1] is ran.ins[0][0]


@pytest.mark.parametrize("equation", ["ab->aab", "abc->a", "a->a"])
def test_einsum_refuses_what_does_not_fit(equation: str) -> None:
    with pytest.raises(Unsupported, match="equation"):
        run("Einsum", [(3, 3)], [(3, 3)], equation=equation)


def test_einsum_aligns_ellipses_from_the_right() -> None:
    shapes = [(2, 3, 5, 6), (3, 6, 7)]
    ran = run("Einsum", shapes, [(2, 3, 5, 7)], equation="...ij, ...jk -> ...ik")
    assert ran.tied(ran.ins[0][1], ran.ins[1][0])
    assert ran.tied(ran.ins[0][3], ran.ins[1][1])
    assert ran.outs[0][0] is ran.ins[0][0]


def test_an_implicit_result_begins_with_the_ellipsis() -> None:
    ran = run("Einsum", [(2, 6), (6, 7)], [(2, 7)], equation="...j, jk")
    assert ran.outs[0] == (ran.ins[0][0], ran.ins[1][1])


def test_a_letter_written_twice_is_the_diagonal_of_two_axes() -> None:
    ran = run("Einsum", [(2, 6, 6)], [(2, 6)], equation="baa->ba")
    assert ran.tied(ran.ins[0][1], ran.ins[0][2])
    assert ran.apart(ran.outs[0][1])


def test_a_stretched_unit_axis_is_not_zero_where_a_channel_leaves() -> None:
    ran = run("Einsum", [(2, 1), (6, 4)], [(2, 4)], equation="ab,bc->ac", weights=[1])
    assert ran.frozen(ran.ins[1][0])


def test_a_shared_weight_ties_both_of_its_inputs() -> None:
    c = Coupler()
    w, x, y = labels(c, 6, 4, 1, 1), labels(c, *IMAGE), labels(c, *IMAGE)
    run_on(c, "Conv", [x, w], [(2, 6, 8, 8)], weights=[1])
    ran = run_on(c, "Conv", [y, w], [(2, 6, 8, 8)], weights=[1])
    assert ran.tied(x[1], y[1])

from __future__ import annotations

import numpy as np
import pytest
from sites import Ran, labels, run, run_on

from prunec.compiler.freedom import Freedom
from prunec.compiler.labels import Coupler
from prunec.compiler.reasons import Reason
from prunec.compiler.site import Unsupported

CONTRIB = "com.microsoft::"
IMAGE, LAST = (2, 4, 8, 8), (2, 8, 8, 4)
TOKENS = (2, 3, 6)


def freely(op: str, shapes: list, outs: list, **options) -> Ran:
    """As `run`, where what a norm runs over may leave."""
    c = Coupler(Freedom(residual=True))
    c.node = "node"
    ins = [labels(c, *(s or ())) for s in shapes]
    return run_on(c, CONTRIB + op, ins, outs, shapes=shapes, **options)


def macs(ran: Ran) -> int:
    return sum(scale * int(np.prod([len(a) for a in axes])) for scale, axes in ran.c.products)


def test_a_fused_conv_is_tied_to_the_sum_that_it_adds() -> None:
    shapes = [IMAGE, (6, 4, 3, 3), (6,), (2, 6, 8, 8)]
    ran = run(f"{CONTRIB}FusedConv", shapes, [(2, 6, 8, 8)], weights=[1, 2])
    x, w, b, z = ran.ins
    assert ran.tied(z[1], w[0]) and ran.tied(b[0], w[0]) and ran.tied(x[1], w[1])
    assert ran.frozen(z[2])
    assert macs(ran) == 2 * 6 * 64 * 4 * 9


@pytest.mark.parametrize("op", ["NhwcConv", "NhwcFusedConv"])
def test_a_convolution_with_channels_last(op: str) -> None:
    shapes = [LAST, (6, 4, 3, 3), (6,), (2, 8, 8, 6)][: 3 + (op == "NhwcFusedConv")]
    ran = run(CONTRIB + op, shapes, [(2, 8, 8, 6)], weights=[1, 2])
    x, w, b, *z = ran.ins
    assert ran.tied(x[3], w[1]) and ran.tied(b[0], w[0])
    assert ran.frozen(x[1]) and ran.frozen(x[2])
    assert all(ran.tied(added[3], w[0]) for added in z)
    assert ran.tied(ran.outs[0][3], w[0])
    assert macs(ran) == 2 * 6 * 64 * 4 * 9


def test_a_transposed_conv_with_dynamic_pads_has_its_bias_fourth() -> None:
    shapes = [IMAGE, (4, 6, 3, 3), (4,), (6,)]
    op = f"{CONTRIB}ConvTransposeWithDynamicPads"
    ran = run(op, shapes, [(2, 6, 16, 16)], weights=[1])
    assert ran.tied(ran.ins[3][0], ran.ins[1][1])
    assert ran.tied(ran.ins[0][1], ran.ins[1][0])


@pytest.mark.parametrize("op", ["FusedMatMul", "FusedMatMulActivation", "TransposeMatMul"])
def test_a_fused_matmul_may_be_transposed(op: str) -> None:
    ran = run(CONTRIB + op, [(2, 6, 3), (4, 6)], [(2, 3, 4)], weights=[1], transA=1, transB=1)
    a, b = ran.ins
    assert ran.tied(a[1], b[1])
    assert ran.outs[0][1:] == (a[2], b[0])
    assert macs(ran) == 2 * 3 * 6 * 4


def test_the_batch_may_stand_behind_the_rows() -> None:
    ran = run(f"{CONTRIB}FusedMatMul", [(5, 2, 6), (2, 6, 4)], [(2, 5, 4)], transBatchA=1)
    a, b = ran.ins
    assert ran.tied(a[2], b[1]) and ran.tied(a[1], b[0])
    assert ran.outs[0][1] is a[0]


def test_both_transposes_put_the_rows_last() -> None:
    options = {"transA": 1, "transBatchA": 1}
    ran = run(f"{CONTRIB}FusedMatMul", [(6, 2, 5), (2, 6, 4)], [(2, 5, 4)], **options)
    a, b = ran.ins
    assert ran.tied(a[0], b[1]) and ran.outs[0][1] is a[2]


def test_an_activation_along_an_axis_is_refused() -> None:
    with pytest.raises(Unsupported, match="Softmax"):
        run(f"{CONTRIB}FusedMatMulActivation", [(3, 6), (6, 4)], [(3, 4)], activation="Softmax")


def test_a_fused_gemm_is_a_gemm() -> None:
    ran = run(f"{CONTRIB}FusedGemm", [(3, 6), (4, 6), (4,)], [(3, 4)], weights=[1], transB=1)
    assert ran.tied(ran.ins[0][1], ran.ins[1][1]) and ran.tied(ran.ins[2][0], ran.ins[1][0])


@pytest.mark.parametrize("op", ["BiasAdd", "BiasGelu", "FastGelu", "Gelu", "QuickGelu"])
def test_activations_are_element_wise(op: str) -> None:
    more = {"BiasAdd": [(6,), TOKENS], "BiasGelu": [(6,)], "FastGelu": [(6,)]}.get(op, [])
    ran = run(CONTRIB + op, [TOKENS, *more], [TOKENS])
    assert all(ran.tied(x[-1], ran.outs[0][2]) for x in ran.ins)


def test_fast_gelu_needs_no_bias() -> None:
    ran = run(f"{CONTRIB}FastGelu", [TOKENS, None], [TOKENS])
    assert ran.outs[0][2] is ran.ins[0][2]


def test_a_gate_leaves_with_what_it_gates() -> None:
    ran = run(f"{CONTRIB}BiasSplitGelu", [TOKENS, (6,)], [(2, 3, 3)])
    x, bias = ran.ins
    assert ran.tied(x[2][:3], x[2][3:]) and ran.tied(bias[0], x[2])
    assert ran.tied(ran.outs[0][2], x[2][:3])


SKIPPED = ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"]


@pytest.mark.parametrize("op", SKIPPED)
@pytest.mark.parametrize("skip", [TOKENS, (1, 3, 6), (3, 6)])
def test_a_skip_norm_ties_all_that_it_adds(op: str, skip: tuple[int, ...]) -> None:
    parameters = [(6,)] * (3 if op == SKIPPED[0] else 2)
    ran = freely(op, [TOKENS, skip, *parameters], [TOKENS, (2, 3, 1), (2, 3, 1), TOKENS])
    assert all(ran.tied(x[-1], ran.outs[0][2]) for x in ran.ins)
    assert ran.tied(ran.outs[3][2], ran.outs[0][2])
    assert [(i.node, i.reason) for i in ran.c.inexacts] == [("node", Reason.NORM_STATISTICS)]


@pytest.mark.parametrize("op", SKIPPED)
def test_statistics_freeze_the_stream_by_default(op: str) -> None:
    ran = run(CONTRIB + op, [TOKENS, TOKENS, (6,)], [TOKENS])
    assert ran.frozen(ran.ins[1][2])


def test_embeddings_that_are_added_are_tied() -> None:
    tables = [(9, 6), (3, 6), (2, 6)]
    shapes = [(2, 3), (2, 3), *tables, (6,), (6,), (2, 3)]
    ran = freely("EmbedLayerNormalization", shapes, [TOKENS, (2,), TOKENS])
    hidden = ran.outs[0][2]
    assert all(ran.tied(x[-1], hidden) for x in ran.ins[2:7])
    assert all(ran.frozen(x[0]) for x in ran.ins[2:5])
    assert ran.apart(hidden) and ran.tied(ran.outs[2][2], hidden)


def test_embeddings_need_no_segments() -> None:
    shapes = [(2, 3), None, (9, 6), (3, 6), None, (6,), (6,)]
    ran = run(f"{CONTRIB}EmbedLayerNormalization", shapes, [TOKENS])
    assert ran.frozen(ran.ins[2][1])


@pytest.mark.parametrize("op", ["GroupNorm", "SkipGroupNorm"])
@pytest.mark.parametrize("last", [0, 1])
def test_whole_groups_leave(op: str, last: int) -> None:
    shape = LAST if last else IMAGE
    added = [(2, 1, 1, 4) if last else (2, 4, 1, 1), (4,)] if op == "SkipGroupNorm" else []
    outs = [shape, shape] if added else [shape]
    options = {"groups": 2, "channels_last": last}
    ran = run(CONTRIB + op, [shape, (4,), (4,), *added], outs, **options)
    own = ran.ins[0][3 if last else 1]
    assert ran.tied(own.reshape(2, 2), own[::2][:, None]) and ran.apart(own[::2])
    assert ran.frozen(ran.ins[0][2])
    assert all(ran.tied(p[0], own) for p in (*ran.ins[1:3], *ran.ins[4:]))
    assert all(ran.tied(p[3 if last else 1], own) for p in ran.ins[3:4])
    (patch,) = ran.c.patches
    assert (patch.key, patch.value, len(patch.elements[0][1])) == ("groups", (2,), 2)


def test_positions_of_every_group_leave_with_more_freedom() -> None:
    options = {"groups": 1, "channels_last": 1}
    ran = freely("GroupNorm", [LAST, (4,), (4,)], [LAST], **options)
    assert ran.apart(ran.ins[0][3])
    assert len(ran.c.inexacts) == 1


def test_a_gated_position_bias_follows_heads_and_positions() -> None:
    shapes = [(2, 3, 8), (8,), (1, 2, 3, 3), (4, 8), (8,), (1, 2, 1, 1)]
    op = f"{CONTRIB}GatedRelativePositionBias"
    ran = run(op, shapes, [(2, 2, 3, 3)], weights=[1, 3], num_heads=2)
    query, bias, relative, weight, _, eco = ran.ins
    assert ran.tied(query[2].reshape(2, 4), weight[0]) and ran.tied(bias[0], query[2])
    assert ran.frozen(weight[1]) and ran.frozen(relative[1]) and ran.frozen(eco[1])
    assert ran.c.recurs == [("node", 1, 0)]
    assert macs(ran) == 2 * 3 * 8 * 8
    free = freely("GatedRelativePositionBias", shapes, [(2, 2, 3, 3)], weights=[1, 3])
    assert free.outs[0][1] is free.ins[2][1]


def test_onnxruntime_has_its_own_name_for_a_norm_without_mean() -> None:
    ran = run("SimplifiedLayerNormalization", [TOKENS, (6,)], [TOKENS, (2, 3, 1)])
    assert ran.frozen(ran.ins[0][2]) and ran.frozen(ran.ins[1][0])
    assert not ran.frozen(ran.ins[0][1])

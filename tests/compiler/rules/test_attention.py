from __future__ import annotations

import numpy as np
import pytest
from sites import Ran, labels, run, run_on

from prunec.compiler.freedom import Freedom
from prunec.compiler.labels import Coupler, Pin, Resize
from prunec.compiler.site import Unsupported

B, T, S, H, KV, D, DV = 2, 3, 5, 4, 2, 6, 8
CONTRIB = "com.microsoft::"


def with_heads(op: str, shapes: list, outs: list, **options) -> Ran:
    """As `run`, where heads leave instead of positions."""
    c = Coupler(Freedom(heads=True))
    c.node = "node"
    ins = [labels(c, *(s or ())) for s in shapes]
    return run_on(c, op, ins, outs, shapes=shapes, **options)


def resized(ran: Ran) -> dict:
    """Attribute -> kept counts are those of how many labels."""
    patches = [p for p in ran.c.patches if isinstance(p, Resize)]
    return {p.key: {k: len(a) for k, a in p.elements} for p in patches}


def pinned(ran: Ran) -> list[tuple[str, float, int]]:
    return [(p.key, p.value, len(p.labels)) for p in ran.c.patches if isinstance(p, Pin)]


def macs(ran: Ran) -> int:
    return sum(scale * int(np.prod([len(a) for a in axes])) for scale, axes in ran.c.products)


PACKED = [(B, T, H * D), (B, S, KV * D), (B, S, KV * DV)]
SPLIT = [(B, H, T, D), (B, KV, S, D), (B, KV, S, DV)]
OWN = {"q_num_heads": H, "kv_num_heads": KV}


def test_attention_removes_positions_of_queries_with_those_of_keys() -> None:
    ran = run("Attention", PACKED, [(B, T, H * DV)], **OWN)
    q, k, _ = ran.ins
    assert ran.tied(q[2].reshape(H, D), q[2][:D])
    assert ran.tied(k[2].reshape(KV, D), q[2][:D])
    assert ran.apart(q[2][:D])


def test_attention_removes_positions_of_values_by_themselves() -> None:
    ran = run("Attention", PACKED, [(B, T, H * DV)], **OWN)
    v, out = ran.ins[2][2], ran.outs[0][2]
    assert ran.tied(out.reshape(H, DV), v[:DV])
    assert ran.apart([*v[:DV], *ran.ins[0][2][:D]])


def test_attention_removes_a_head_of_keys_with_its_queries() -> None:
    ran = with_heads("Attention", [*PACKED], [(B, T, H * DV)], **OWN)
    q, k, v = (x[2] for x in ran.ins)
    assert ran.tied(q.reshape(KV, H // KV * D), k.reshape(KV, D)[:, :1])
    assert ran.tied(v.reshape(KV, DV), k.reshape(KV, D)[:, :1])
    assert ran.tied(ran.outs[0][2].reshape(KV, H // KV * DV), v.reshape(KV, DV)[:, :1])


def test_queries_of_one_head_of_keys_leave_evenly() -> None:
    shapes = [(B, T, H * D), (B, S, D), (B, S, DV)]
    options = {"q_num_heads": H, "kv_num_heads": 1}
    ran = with_heads("Attention", shapes, [(B, T, H * DV)], **options)
    assert ran.apart(ran.ins[0][2].reshape(H, D)[:, 0])
    assert ran.frozen(ran.ins[1][2])
    assert resized(ran) == {"q_num_heads": {0: H}, "kv_num_heads": {0: 1}}


def test_attention_with_an_axis_of_heads() -> None:
    ran = run("Attention", SPLIT, [(B, H, T, DV)])
    q, k, v = ran.ins
    assert ran.tied(q[3], k[3])
    assert ran.outs[0][3] is v[3]
    assert ran.tied(k[1], v[1])
    assert ran.tied(q[1].reshape(KV, H // KV), k[1][:, None])
    assert ran.frozen(q[0]) and ran.frozen(q[2]) and ran.frozen(k[2])


def test_as_many_heads_of_keys_as_of_queries_are_the_same_heads() -> None:
    ran = run("Attention", [SPLIT[0], (B, H, S, D), (B, H, S, DV)], [(B, H, T, DV)])
    assert ran.tied(ran.ins[0][1], ran.ins[1][1])


@pytest.mark.parametrize("axes", [(H, T, S), (1, H, T, S), (B, H, 1, S)])
def test_a_mask_per_head_follows_the_heads(axes: tuple[int, ...]) -> None:
    ran = run("Attention", [*SPLIT, axes], [(B, H, T, DV)])
    assert ran.tied(ran.ins[3][-3], ran.ins[0][1])
    assert ran.frozen(ran.ins[3][-1])


def test_one_mask_for_all_heads_ties_nothing() -> None:
    ran = run("Attention", [*SPLIT, (B, 1, T, S)], [(B, H, T, DV)])
    assert ran.frozen(ran.ins[3][0]) and ran.frozen(ran.ins[3][2])
    assert not ran.frozen(ran.ins[0][1])


def test_caches_follow_heads_and_positions() -> None:
    past = [(B, KV, 2, D), (B, KV, 2, DV)]
    present = [(B, KV, 2 + S, D), (B, KV, 2 + S, DV)]
    outs = [(B, H, T, DV), *present, (B, H, T, 2 + S)]
    ran = run("Attention", [*SPLIT, None, *past], outs)
    _, k, v, _, past_key, past_value = ran.ins
    assert ran.tied(past_key[1], k[1]) and ran.tied(past_key[3], k[3])
    assert ran.tied(past_value[1], v[1]) and ran.tied(past_value[3], v[3])
    assert ran.tied(ran.outs[1][1], k[1]) and ran.tied(ran.outs[1][3], k[3])
    assert ran.tied(ran.outs[2][3], v[3])
    assert ran.tied(ran.outs[3][1], ran.ins[0][1])
    assert ran.frozen(past_key[0]) and ran.frozen(past_key[2])


@pytest.mark.parametrize("shapes", [PACKED, SPLIT])
def test_attention_counts_queries_by_keys_and_weights_by_values(shapes: list) -> None:
    options = OWN if shapes is PACKED else {}
    out = (B, T, H * DV) if shapes is PACKED else (B, H, T, DV)
    assert macs(run("Attention", shapes, [out], **options)) == B * H * T * S * (D + DV)


def test_the_default_scale_is_kept_as_it_was() -> None:
    assert pinned(run("Attention", SPLIT, [(B, H, T, DV)])) == [("scale", D**-0.5, D)]
    assert pinned(run("Attention", SPLIT, [(B, H, T, DV)], scale=0.3)) == []


def test_queries_and_keys_are_read() -> None:
    ran = run("Attention", SPLIT, [(B, H, T, DV)])
    assert [id(a) for a in ran.c.reads] == [id(ran.ins[0][3]), id(ran.ins[1][3])]


def test_heads_that_do_not_group_are_refused() -> None:
    with pytest.raises(Unsupported, match="4 heads of queries, 3 of keys"):
        run("Attention", PACKED, [(B, T, H * DV)], q_num_heads=H, kv_num_heads=3)


WIDTH = 2 * H * D + H * DV
SIZES = [H * D, H * D, H * DV]


def projected(**options) -> Ran:
    return run(
        f"{CONTRIB}Attention",
        [(B, T, 7), (7, WIDTH), (WIDTH,)],
        [(B, T, H * DV)],
        weights=[1, 2],
        num_heads=H,
        qkv_hidden_sizes=SIZES,
        **options,
    )


def test_a_fused_projection_is_cut_in_three() -> None:
    ran = projected()
    w = ran.ins[1][1]
    q, k, v = w[: H * D], w[H * D : 2 * H * D], w[2 * H * D :]
    assert ran.tied(q.reshape(H, D), q[:D]) and ran.tied(q, k)
    assert ran.tied(v.reshape(H, DV), v[:DV])
    assert ran.tied(ran.outs[0][2], v)
    assert ran.tied(ran.ins[2][0], w)
    assert ran.tied(ran.ins[0][2], ran.ins[1][0])


def test_a_fused_projection_gates_its_weight_and_bias() -> None:
    assert projected().c.recurs == [("node", 1, 1), ("node", 2, 0)]


def test_a_fused_projection_follows_its_sizes() -> None:
    assert resized(projected()) == {
        "num_heads": {0: H},
        "qkv_hidden_sizes": {0: H * D, 1: H * D, 2: H * DV},
    }


def test_a_fused_projection_counts_itself() -> None:
    assert macs(projected()) == B * T * 7 * WIDTH + B * H * T * T * (D + DV)


def test_angles_that_depend_on_the_size_of_a_head_keep_it() -> None:
    ran = projected(do_rotary=1)
    assert ran.frozen(ran.ins[1][1][: H * D])
    assert not ran.frozen(ran.ins[1][1][2 * H * D :])


def test_a_cache_of_keys_and_values_has_one_size_of_heads() -> None:
    shapes = [(B, T, 7), (7, 3 * H * D), (3 * H * D,), None, (2, B, H, 2, D), (1, H, T, T + 2)]
    outs = [(B, T, H * D), (2, B, H, T + 2, D)]
    ran = run(f"{CONTRIB}Attention", shapes, outs, weights=[1, 2], num_heads=H)
    past, scores = ran.ins[4], ran.ins[5]
    w = ran.ins[1][1]
    assert ran.tied(past[4], w[:D]) and ran.tied(past[4], w[2 * H * D :][:D])
    assert ran.frozen(past[3]) and ran.frozen(past[1])
    assert ran.tied(ran.outs[1][4], past[4])
    assert ran.frozen(past[2]) and ran.frozen(scores[1])  # positions leave, heads stay


def test_a_projection_by_an_activation_is_refused() -> None:
    shapes = [(B, T, 7), (7, 3 * H * D), (3 * H * D,)]
    with pytest.raises(Unsupported, match="no weight"):
        run(f"{CONTRIB}Attention", shapes, [(B, T, H * D)], num_heads=H)


def multi_head(*shapes, outs=None, **options) -> Ran:
    outs = outs or [(B, T, H * DV)]
    return run(f"{CONTRIB}MultiHeadAttention", [*shapes], outs, num_heads=H, **options)


def test_multi_head_attention_gates_the_bias_that_it_adds_inside() -> None:
    ran = multi_head((B, T, H * D), (B, S, H * D), (B, S, H * DV), (WIDTH,))
    q, k, v, bias = ran.ins
    assert ran.c.recurs == [("node", 3, 0)]
    assert ran.tied(bias[0][: H * D], q[2]) and ran.tied(bias[0][H * D : 2 * H * D], k[2])
    assert ran.tied(bias[0][2 * H * D :], v[2]) and ran.tied(ran.outs[0][2], v[2])


def test_keys_and_values_with_an_axis_of_heads_have_one_shape() -> None:
    shapes = (B, T, H * D), (B, H, S, D), (B, H, S, D)
    ran = multi_head(*shapes, outs=[(B, T, H * D)])
    q, k, v = ran.ins
    assert ran.tied(k[3], q[2][:D]) and ran.tied(k[3], v[3])
    assert ran.frozen(k[2]) and ran.tied(ran.outs[0][2][:D], v[3])


def test_packed_queries_keys_and_values_have_heads_of_one_size() -> None:
    ran = multi_head((B, T, H, 3, D), None, None, outs=[(B, T, H * D)])
    (q, *_) = ran.ins
    assert ran.frozen(q[3]) and ran.frozen(q[2])
    assert ran.tied(ran.outs[0][2].reshape(H, D), q[4])
    assert macs(ran) == 2 * B * H * T * T * D


def test_packed_keys_and_values_have_heads_of_one_size() -> None:
    ran = multi_head((B, T, H * D), (B, S, H, 2, D), None, outs=[(B, T, H * D)])
    q, kv, _ = ran.ins
    assert ran.frozen(kv[3]) and ran.tied(q[2].reshape(H, D), kv[4])
    assert ran.tied(ran.outs[0][2][:D], kv[4])
    assert macs(ran) == 2 * B * H * T * S * D


def test_multi_head_attention_follows_masks_and_caches() -> None:
    shapes = [(B, T, H * D), (B, S, H * D), (B, S, H * DV), None, (B, S), (1, H, T, S + 2)]
    past = [(B, H, 2, D), (B, H, 2, DV)]
    total = S + 2
    outs = [(B, T, H * DV), (B, H, total, D), (B, H, total, DV), (B, H, T, total)]
    op = f"{CONTRIB}MultiHeadAttention"
    ran = with_heads(op, [*shapes, *past], outs, num_heads=H)
    heads = ran.ins[0][2].reshape(H, D)[:, 0]
    assert ran.frozen(ran.ins[4][1])
    assert all(ran.tied(x[1], heads) for x in (*ran.ins[5:8], *ran.outs[1:]))
    assert macs(ran) == B * H * T * total * (D + DV)


DIM = 32  # of a head of GroupQueryAttention: two blocks of rotary pairs
GROUP_OUTS = [(B, T, H * DIM), (B, KV, T, DIM), (B, KV, T, DIM)]


def group_query(*shapes, dim: int = DIM, **options) -> Ran:
    outs = [(B, T, H * dim), (B, KV, T, dim), (B, KV, T, dim)]
    own = {"num_heads": H, "kv_num_heads": KV}
    return run(f"{CONTRIB}GroupQueryAttention", [*shapes], outs, **own, **options)


def grouped(dim: int = DIM) -> list[tuple[int, ...] | None]:
    return [(B, T, H * dim), (B, T, KV * dim), (B, T, KV * dim), None, None, (B,), ()]


def test_group_query_attention_has_one_size_of_heads_in_blocks_of_eight() -> None:
    ran = group_query(*grouped())
    q, k, v = (x[2] for x in ran.ins[:3])
    assert ran.tied(q.reshape(H, DIM), k[:DIM]) and ran.tied(v.reshape(KV, DIM), k[:DIM])
    blocks = k[:DIM].reshape(-1, 8)
    assert ran.tied(blocks, blocks[:, :1]) and ran.apart(blocks[:, 0])
    assert ran.tied(ran.outs[0][2], q) and ran.tied(ran.outs[1][3], k[:DIM])


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_pairs_leave_in_blocks_of_eight(interleaved: int) -> None:
    tables = [(9, DIM // 2), (9, DIM // 2)]
    ran = group_query(*grouped(), *tables, do_rotary=1, rotary_interleaved=interleaved)
    own = ran.ins[0][2][:DIM]
    pairs = own.reshape(-1, 2) if interleaved else own.reshape(2, -1).T
    assert ran.tied(pairs, ran.ins[7][1][:, None]) and ran.tied(ran.ins[7][1], ran.ins[8][1])
    assert ran.tied(pairs[:8], pairs[:1]) and ran.apart(pairs[::8, 0])


def test_a_rotation_of_a_part_keeps_the_positions() -> None:
    ran = group_query(*grouped(), (9, 8), (9, 8), do_rotary=1)
    own = ran.ins[0][2].reshape(H, DIM)
    assert ran.tied(own, own[:, :1])  # whole heads leave


def test_packed_group_query_attention_is_cut_in_three() -> None:
    ran = group_query((B, T, (H + 2 * KV) * DIM), None, None, None, None, (B,), ())
    own = ran.ins[0][2]
    assert ran.tied(own.reshape(-1, DIM), own[:DIM])


def test_group_query_attention_follows_biases_sinks_and_norms() -> None:
    extra = [None, None, None, (1, H, T, T), (H,), None, None, (DIM,), (DIM,)]
    shapes = [*grouped(), *extra]
    own = {"num_heads": H, "kv_num_heads": KV}
    ran = with_heads(f"{CONTRIB}GroupQueryAttention", shapes, GROUP_OUTS, **own)
    heads = ran.ins[0][2].reshape(H, DIM)[:, 0]
    assert ran.tied(ran.ins[10][1], heads) and ran.tied(ran.ins[11][0], heads)
    assert ran.frozen(ran.ins[14][0])  # statistics run over the positions
    assert resized(ran) == {"num_heads": {0: H}, "kv_num_heads": {0: KV}}


def test_group_query_attention_follows_its_cache() -> None:
    shapes = grouped()
    shapes[3:5] = [(B, KV, 2, DIM), (B, KV, 2, DIM)]
    ran = group_query(*shapes)
    assert ran.tied(ran.ins[3][3], ran.ins[0][2][:DIM])
    assert macs(ran) == 2 * B * H * T * (T + 2) * DIM


def test_a_quantised_cache_is_refused() -> None:
    with pytest.raises(Unsupported, match="quantised cache"):
        group_query(*grouped(), *[None] * 5, (1,))


@pytest.mark.parametrize("op", ["RotaryEmbedding", f"{CONTRIB}RotaryEmbedding"])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_pairs_stay_pairs(op: str, interleaved: int) -> None:
    tables = [(9, D // 2), (9, D // 2)]
    rest = [(B, T), *tables] if op.startswith(CONTRIB) else [*tables, (B, T)]
    ran = run(op, [(B, H, T, D), *rest], [(B, H, T, D)], interleaved=interleaved)
    x = ran.ins[0]
    cos, sin = [i for i, shape in zip(ran.ins, [(), *rest], strict=True) if shape == (9, D // 2)]
    pairs = x[3].reshape(-1, 2) if interleaved else x[3].reshape(2, -1).T
    assert ran.tied(pairs, cos[1][:, None]) and ran.tied(cos[1], sin[1])
    assert ran.apart(cos[1]) and ran.frozen(cos[0])
    assert not ran.frozen(x[1]) and ran.outs[0] is x


def test_positions_behind_the_rotated_ones_are_free() -> None:
    shapes = [(B, T, H * D), (9, 2), (9, 2)]
    options = {"num_heads": H, "rotary_embedding_dim": 4}
    ran = run("RotaryEmbedding", shapes, [(B, T, H * D)], **options)
    own = ran.ins[0][2].reshape(H, D)
    assert ran.tied(own, own[0]) and ran.tied(own[0, :2], own[0, 2:4])
    assert ran.apart([*own[0, :2], *own[0, 4:]])
    assert resized(ran) == {"num_heads": {0: H}, "rotary_embedding_dim": {0: 4}}


def test_heads_of_a_rotation_can_leave() -> None:
    shapes = [(B, T, H * D), (B, T), (9, D // 2), (9, D // 2)]
    ran = with_heads(f"{CONTRIB}RotaryEmbedding", shapes, [(B, T, H * D)])
    own = ran.ins[0][2].reshape(H, D)
    assert ran.tied(own, own[:, :1]) and ran.apart(own[:, 0])

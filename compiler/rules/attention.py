"""Attention as one operator: of ONNX and of onnxruntime, and rotary position embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.reasons import Reason
from prunec.compiler.site import Rule, Site, Unsupported, stay

# Kernels of GroupQueryAttention read heads in blocks of this many numbers.
HEAD_BLOCK = 8


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """The axes that attention is made of.

    query: (H,) heads. kv: (KV,) heads of keys and values. rows: the axes whose product, in C
    order, are the query heads: (kv,), or (kv, heads of one group). dim, value: (D,), (Dv,)
    positions within a head of queries and keys, and of values.
    """

    query: Labels
    kv: Labels
    rows: tuple[Labels, ...]
    dim: Labels
    value: Labels


def _heads(query: int, kv: int, dim: int, value: int, c: Coupler) -> Heads:
    """New axes; query heads leave evenly per group, or with their key and value head."""
    if not query or not kv or query % kv:
        raise Unsupported(f"{query} heads of queries, {kv} of keys")
    own = c.fresh(kv)
    return _grouped(own if query == kv else c.fresh(query), own, c.fresh(dim), c.fresh(value), c)


def _grouped(query: Labels, kv: Labels, dim: Labels, value: Labels, c: Coupler) -> Heads:
    rows: tuple[Labels, ...] = (kv,)
    if query is kv:
        pass
    elif len(query) == len(kv):
        c.tie(query, kv, "heads of queries and keys")
    else:
        rows = (kv, c.fresh(len(query) // len(kv)))
        c.factor(query, rows)
    for labels in (query, *rows):
        c.head(labels)
    return Heads(query, kv, rows, dim, value)


def _packed(cells: Sequence[Labels], heads: Heads, c: Coupler) -> None:
    """Queries, keys and values whose last axis is heads times positions."""
    factors = ((*heads.rows, heads.dim), (heads.kv, heads.dim), (heads.kv, heads.value))
    for own, parts in zip(cells, factors, strict=True):
        c.factor(own, parts)


def _packed_output(heads: Heads, c: Coupler) -> Labels:
    out = c.fresh(len(heads.query) * len(heads.value))
    c.factor(out, (*heads.rows, heads.value))
    return out


def _products(site: Site, heads: Heads, rows: int, keys: int, c: Coupler) -> None:
    """Multiply-accumulates of Q K' and of A V; the dense scale is kept where it is a default."""
    c.macs(heads.query, heads.dim, scale=rows * keys)
    c.macs(heads.query, heads.value, scale=rows * keys)
    if not site.attr("scale", 0.0):
        c.pin("scale", len(heads.dim) ** -0.5, heads.dim)


def _tokens(values: Sequence[AxisLabels], axes: Sequence[int], c: Coupler) -> None:
    for x in values:
        for axis in axes:
            if axis < len(x):
                c.freeze(x[axis], Reason.SPATIAL_AXIS, "the batch or the tokens of an attention")


def _bias(bias: AxisLabels, heads: Labels, c: Coupler) -> None:
    """A mask or bias that broadcasts over (batch, heads, queries, keys)."""
    for axis, labels in zip(range(-1, -1 - len(bias), -1), reversed(bias), strict=True):
        if axis != -3:
            c.freeze(labels, Reason.SPATIAL_AXIS, "the batch or the tokens of an attention")
        elif len(labels) > 1:
            c.tie(labels, heads, "a mask or bias per head")


def _cache(past: AxisLabels, kv: Labels, dim: Labels, c: Coupler) -> None:
    """(..., KV, past tokens, D): what a caller feeds keeps heads and positions as they are."""
    if past:
        c.tie(past[-3], kv, "heads of cached keys or values")
        c.tie(past[-1], dim, "positions of cached keys or values")
        _tokens((past,), range(len(past))[:-3], c)
        _tokens((past,), (len(past) - 2,), c)


def _present(site: Site, position: int, kv: Labels, dim: Labels, c: Coupler) -> AxisLabels:
    shape = site.out_shapes[position] if position < len(site.out_shapes) else ()
    return (*stay(shape[:-3], c), kv, *stay(shape[-2:-1], c), dim) if shape else ()


def attention(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``q (B, T, H*D), k (B, S, KV*D), v (B, S, KV*Dv)``, or with an axis of heads second:
    ``q (B, H, T, D)``; mask, past key and value, lengths; ONNX Attention.
    """
    q, k, v, mask, past_key, past_value, lengths = (*ins, *[()] * 7)[:7]
    if len(q) == 4:
        _tokens((q, k, v), (0, 2), c)
        c.tie(q[3], k[3], "positions of queries and keys")
        c.tie(v[1], k[1], "heads of keys and values")
        heads = _grouped(q[1], k[1], k[3], v[3], c)
    else:
        _tokens((q, k, v), (0, 1), c)
        number, kv = site.attr("q_num_heads", 0), site.attr("kv_num_heads", 0)
        heads = _heads(number, kv, len(q[2]) // max(number, 1), len(v[2]) // max(kv, 1), c)
        _packed((q[2], k[2], v[2]), heads, c)
        c.resize("q_num_heads", number, {0: heads.query})
        c.resize("kv_num_heads", kv, {0: heads.kv})
    c.read(q[-1])
    c.read(k[-1])
    _bias(mask, heads.query, c)
    _cache(past_key, heads.kv, heads.dim, c)
    _cache(past_value, heads.kv, heads.value, c)
    _tokens((lengths,), (0,), c)
    batch, queries, keys = len(q[0]), len(q[-2]) if len(q) == 4 else len(q[1]), len(k[-2])
    past = len(past_key[2]) if past_key else 0
    _products(site, heads, batch * queries, past + keys, c)
    if len(q) == 4:
        out: AxisLabels = (*stay((batch,), c), heads.query, *stay((queries,), c), heads.value)
    else:
        out = (*stay((batch, queries), c), _packed_output(heads, c))
    scores = site.out_shapes[3] if len(site.out_shapes) > 3 else ()
    return [
        out,
        _present(site, 1, heads.kv, heads.dim, c),
        _present(site, 2, heads.kv, heads.value, c),
        (*stay(scores[:1], c), heads.query, *stay(scores[2:], c)) if scores else (),
    ][: len(site.node.outputs)]


def fused_projection(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x (B, T, I), w (I, 2*H*D + H*Dv), b, mask, past (2, B, H, P, D), bias (B, H, T, S)
    -> y (B, T, H*Dv), present``; com.microsoft Attention.

    Queries, keys and values exist inside the node only: `recur` gates their weights instead.
    """
    x, w, bias, mask, past, scores = (*ins, *[()] * 6)[:6]
    number = site.attr("num_heads")
    third = len(w[1]) // 3
    sizes = site.attr("qkv_hidden_sizes") or (third, third, len(w[1]) - 2 * third)
    q, k, v = w[1][: sizes[0]], w[1][sizes[0] : sizes[0] + sizes[1]], w[1][sizes[0] + sizes[1] :]
    heads = _heads(number, number, sizes[0] // number, sizes[2] // number, c)
    _packed((q, k, v), heads, c)
    if site.attr("do_rotary", 0):
        text = "a rotation whose angles depend on the size of a head"
        c.freeze(heads.dim, Reason.UNSUPPORTED_FORM, text)
    if past or len(site.node.outputs) > 1:
        c.tie(heads.dim, heads.value, "keys and values in one cache")
    _tokens((x, mask), (0, 1), c)
    _tokens((mask,), (2, 3), c)
    _bias(scores, heads.query, c)
    _cache(past, heads.kv, heads.dim, c)
    c.tie(x[2], w[0], "the summed axis of an attention's projection")
    c.read(x[2])
    c.read(w[0])
    if not site.weights[1] or not site.gated(0):
        raise Unsupported("projections by something that is no weight")
    c.free(w[1])
    c.recur(1, 1)
    if bias:
        c.tie(bias[0], w[1], "bias")
        c.recur(2, 0)
    c.resize("num_heads", number, {0: heads.query})
    c.resize("qkv_hidden_sizes", sizes, {0: q, 1: k, 2: v})
    batch, tokens = site.in_shapes[0][:2]
    c.macs(w[0], w[1], scale=batch * tokens)
    keys = tokens + (len(past[3]) if past else 0)
    _products(site, heads, batch * tokens, keys, c)
    out = (*stay((batch, tokens), c), _packed_output(heads, c))
    return [out, _present(site, 1, heads.kv, heads.dim, c)][: len(site.node.outputs)]


def multi_head(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``q (B, T, H*D), k (B, S, H*D), v (B, S, H*Dv), b (2*H*D + H*Dv,), padding, bias, past key
    and value -> y (B, T, H*Dv)``; com.microsoft MultiHeadAttention.

    Keys and values may have an axis of heads second, (B, H, S, D), or be packed with the queries,
    (B, T, H, 3, D), or with each other, (B, S, H, 2, D).
    """
    q, k, v, bias, padding, scores, past_key, past_value = (*ins, *[()] * 8)[:8]
    number, batch, tokens = site.attr("num_heads"), *site.in_shapes[0][:2]
    keys = tokens
    if len(q) == 5:
        heads = _grouped(q[2], q[2], q[4], q[4], c)
        c.freeze(q[3], Reason.UNSUPPORTED_FORM, "queries, keys and values side by side")
    else:
        dim = len(q[2]) // number
        width = len(v[2]) // number if len(v) == 3 else len(v[3]) if v else dim
        heads = _heads(number, number, dim, width, c)
        c.factor(q[2], (heads.kv, heads.dim))
        keys = len(k[2]) if len(k) == 4 else len(k[1])
    if len(k) == 5:
        c.tie(k[2], heads.kv, "heads of queries and keys")
        c.tie(k[4], heads.dim, "positions of queries and keys")
        c.tie(k[4], heads.value, "keys and values in one tensor")
        c.freeze(k[3], Reason.UNSUPPORTED_FORM, "keys and values side by side")
    for x, width_labels in ((k, heads.dim), (v, heads.value)):
        if len(x) == 4:
            c.tie(x[1], heads.kv, "heads of queries, keys and values")
            c.tie(x[3], width_labels, "positions of queries and keys")
        elif len(x) == 3:
            c.factor(x[2], (heads.kv, width_labels))
    if len(k) == 4:
        c.tie(heads.dim, heads.value, "keys and values of one shape, as the kernels want them")
    if bias:
        split = len(heads.kv) * len(heads.dim)
        cells = bias[0][:split], bias[0][split : 2 * split], bias[0][2 * split :]
        _packed(cells, heads, c)
        c.recur(3, 0)  # it is added inside, after every gate
    for x in (q, k, v):
        _tokens((x,), (0, 2) if len(x) == 4 else (0, 1), c)
    _tokens((padding,), (0, 1, 2), c)
    for x in (q, k):
        if x:
            c.read(x[-1])
    _bias(scores, heads.query, c)
    _cache(past_key, heads.kv, heads.dim, c)
    _cache(past_value, heads.kv, heads.value, c)
    c.resize("num_heads", number, {0: heads.query})
    past = len(past_key[2]) if past_key else 0
    _products(site, heads, batch * tokens, past + keys, c)
    return [
        (*stay((batch, tokens), c), _packed_output(heads, c)),
        _present(site, 1, heads.kv, heads.dim, c),
        _present(site, 2, heads.kv, heads.value, c),
        *(_scores(shape, heads.query, c) for shape in site.out_shapes[3:]),
    ][: len(site.node.outputs)]


def _scores(shape: Sequence[int], heads: Labels, c: Coupler) -> AxisLabels:
    return (*stay(shape[:1], c), heads, *stay(shape[2:], c)) if shape else ()


def group_query(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``q (B, T, H*D), k, v (B, S, KV*D), past (B, KV, P, D), lengths, total, cos, sin (P, D/2),
    positions, bias, sink (H,)``; com.microsoft GroupQueryAttention.

    Keys and values share D; queries, keys and values may be packed along the last axis of q.
    """
    q, k, v, past_key, past_value, *others = (*ins, *[()] * 16)[:16]
    _, _, cos, sin, positions, scores, sink, k_scale, v_scale, q_norm, k_norm = others
    if k_scale or v_scale:
        raise Unsupported("a quantised cache")
    number, kv = site.attr("num_heads"), site.attr("kv_num_heads")
    batch, tokens = site.in_shapes[0][:2]
    if k:
        cells: tuple[Labels, ...] = (q[2], k[2], v[2])
        dim = len(q[2]) // number
    else:
        dim = len(q[2]) // (number + 2 * kv)
        first = number * dim
        cells = q[2][:first], q[2][first : first + kv * dim], q[2][first + kv * dim :]
    heads = _heads(number, kv, dim, dim, c)
    c.tie(heads.dim, heads.value, "queries, keys and values have heads of one size")
    _packed(cells, heads, c)
    _in_blocks(site, heads.dim, cos, sin, c)
    for norm in (q_norm, k_norm):
        if norm:
            c.tie(norm[0], heads.dim, "the norm of a head")
            c.inexact(heads.dim, Reason.NORM_STATISTICS, "the norm of a head runs over it")
    if sink:
        c.tie(sink[0], heads.query, "a sink per head")
    _tokens((q, k, v, positions), (0, 1), c)
    for x in (q, k):
        if x:
            c.read(x[2])
    _bias(scores, heads.query, c)
    _cache(past_key, heads.kv, heads.dim, c)
    _cache(past_value, heads.kv, heads.dim, c)
    c.resize("num_heads", number, {0: heads.query})
    c.resize("kv_num_heads", kv, {0: heads.kv})
    keys = tokens + (len(past_key[2]) if past_key else 0)
    _products(site, heads, batch * tokens, keys, c)
    return [
        (*stay((batch, tokens), c), _packed_output(heads, c)),
        _present(site, 1, heads.kv, heads.dim, c),
        _present(site, 2, heads.kv, heads.dim, c),
        *(_scores(shape, heads.query, c) for shape in site.out_shapes[3:]),
    ][: len(site.node.outputs)]


def _in_blocks(site: Site, dim: Labels, cos: AxisLabels, sin: AxisLabels, c: Coupler) -> None:
    """Positions leave in blocks, rotary pairs whole: the kernels want multiples of HEAD_BLOCK."""
    reason = "positions of a head leave in blocks, as the kernels read them"
    if not site.attr("do_rotary", 0):
        if len(dim) % HEAD_BLOCK == 0:
            blocks = dim.reshape(-1, HEAD_BLOCK)
            c.tie(blocks, blocks[:, :1], reason)
        return
    half = len(dim) // 2
    if not cos or len(cos[1]) != half or half % HEAD_BLOCK:
        text = "a rotation of a part of every head"
        c.freeze(dim, Reason.UNSUPPORTED_FORM, text)
        return
    _rotate(dim, cos, sin, bool(site.attr("rotary_interleaved", 0)), c)
    blocks = cos[1].reshape(-1, HEAD_BLOCK)  # the kernels round the number of pairs down, too
    c.tie(blocks, blocks[:, :1], reason)


def _rotate(dim: Labels, cos: AxisLabels, sin: AxisLabels, interleaved: bool, c: Coupler) -> Labels:
    """Pairs of positions turn together by an angle of the caches (..., pairs); returns them.

    Positions behind the pairs are not rotated.
    """
    turned = dim[: 2 * len(cos[-1])]
    pairs = turned.reshape(-1, 2) if interleaved else turned.reshape(2, -1).T
    c.tie(pairs, cos[-1][:, None], "a rotary pair and its angle")
    c.tie(cos[-1], sin[-1], "sine and cosine of a rotary pair")
    for table in (cos, sin):
        for labels in table[:-1]:
            c.freeze(labels, Reason.ORDERED_AXIS, "positions of a rotary embedding")
    return turned


def rotary(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x (B, T, H*D) or (B, H, T, D), cos, sin (..., pairs)``; ONNX and com.microsoft
    RotaryEmbedding, which differ in where the position ids stand.
    """
    x, *rest = ins
    contrib = bool(site.node.domain)
    cos, sin = rest[1:3] if contrib else rest[:2]
    number = site.attr("num_heads", 0)
    partial = site.attr("rotary_embedding_dim", 0)
    if len(x) == 4:
        _tokens((x,), (0, 2), c)
        dim = x[3]
    else:
        _tokens((x,), (0, 1), c)
        count = number or len(x[2]) // (2 * len(cos[-1]))
        heads, dim = c.fresh(count), c.fresh(len(x[2]) // count)
        c.factor(x[2], (heads, dim))
        c.head(heads)
        if number:
            c.resize("num_heads", number, {0: heads})
    turned = _rotate(dim, cos, sin, bool(site.attr("interleaved", 0)), c)
    if partial:
        c.resize("rotary_embedding_dim", partial, {0: turned})
    return [x]


RULES: Mapping[str, Rule] = {
    "Attention": attention,
    "RotaryEmbedding": rotary,
    "com.microsoft::Attention": fused_projection,
    "com.microsoft::GroupQueryAttention": group_query,
    "com.microsoft::MultiHeadAttention": multi_head,
    "com.microsoft::RotaryEmbedding": rotary,
}

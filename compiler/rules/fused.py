"""Operators that onnxruntime's optimizer writes: several ONNX operators in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.reasons import Reason
from prunec.compiler.rules.contraction import broadcast, conv, conv_transpose, gemm, matmul
from prunec.compiler.rules.elementwise import elementwise
from prunec.compiler.rules.norm import over_axes
from prunec.compiler.site import Rule, Site, Unsupported, stay

ALONG_AXIS = ("Hardmax", "LogSoftmax", "Softmax")  # activations that are not element-wise


def fused_conv(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``activation(conv(x, w, b) + z)``; com.microsoft FusedConv."""
    (out,) = conv(site, ins[:3], c)
    return [broadcast([out, *(z for z in ins[3:] if z)], c, "the sum that a FusedConv adds")]


def channels_last_conv(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x (N, *S, C), w (M, C/g, *K), b (M,), z (N, *S', M) -> (N, *S', M)``; com.microsoft
    NhwcConv, NhwcFusedConv.
    """
    first = _moved(site, -1, 1)
    (y,) = conv(first, [_move(ins[0], -1, 1), *ins[1:3]], c)
    out = _move(y, 1, -1)
    return [broadcast([out, *(z for z in ins[3:] if z)], c, "the sum that a convolution adds")]


def _move(x: AxisLabels, source: int, target: int) -> AxisLabels:
    axes = list(x)
    axes.insert(target % len(x), axes.pop(source))
    return tuple(axes)


def _moved(site: Site, source: int, target: int) -> Site:
    """The site as its rule would see it with the channels of x and y second."""

    def move(shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = list(shape)
        sizes.insert(target, sizes.pop(source))
        return tuple(sizes)

    return replace(
        site,
        in_shapes=(move(site.in_shapes[0]), *site.in_shapes[1:]),
        out_shapes=tuple(move(shape) for shape in site.out_shapes),
    )


def padded_conv_transpose(
    site: Site, ins: Sequence[AxisLabels], c: Coupler
) -> Sequence[AxisLabels]:
    """``x, w, pads, b``; com.microsoft ConvTransposeWithDynamicPads."""
    return conv_transpose(site, [*ins[:2], *ins[3:4]], c)


def fused_matmul(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``alpha a b``, either transposed, or with its rows before the batch; com.microsoft
    FusedMatMul, TransposeMatMul, FusedMatMulActivation.
    """
    if site.attr("activation", "") in ALONG_AXIS:
        raise Unsupported(f"the activation {site.attr('activation')}")
    return matmul(site, [_operand(site, x, side) for x, side in zip(ins, "AB", strict=True)], c)


def _operand(site: Site, x: AxisLabels, side: str) -> AxisLabels:
    if len(x) < 2:
        return x
    if site.attr(f"transBatch{side}", 0):
        x = (*x[1:-1], x[0], x[-1])
    return (*x[:-2], x[-1], x[-2]) if site.attr(f"trans{side}", 0) else x


def skip_norm(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``norm(x + skip + bias)`` and, fourth, the sum; com.microsoft SkipLayerNormalization,
    SkipSimplifiedLayerNormalization. x (B, T, H), skip (B or 1, T, H) or (T, H), others (H,).
    """
    out = broadcast([x for x in ins if x], c, "the sum that is normalised")
    _normalised(site, out[-1], c)
    reduced = (*out[:-1], c.frozen(1))
    return [out, reduced, reduced, out][: len(site.node.outputs)]


def embedding_norm(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``norm(words[ids] + positions + segments[ids])``, the mask's lengths, the sum; com.microsoft
    EmbedLayerNormalization. Tables (rows, H), parameters (H,).
    """
    ids, _, words, positions, segments, gamma, beta, *_ = (*ins, *[()] * 9)[:9]
    hidden = words[1]
    for table in (words, positions, segments):
        if table:
            c.freeze(table[0], Reason.DYNAMIC_SHAPE, "an axis that an embedding indexes by data")
            c.tie(table[1], hidden, "embeddings that are added")
    for parameters in (gamma, beta):
        if parameters:
            c.tie(parameters[0], hidden, "parameters of the norm")
    _normalised(site, hidden, c)
    out = (*stay([len(labels) for labels in ids], c), hidden)
    lengths = stay(site.out_shapes[1], c) if len(site.out_shapes) > 1 else ()
    return [out, lengths, out][: len(site.node.outputs)]


def _normalised(site: Site, labels: Labels, c: Coupler) -> None:
    text = f"statistics of {site.node.op_type} run over it"
    c.inexact(labels, Reason.NORM_STATISTICS, text)


def grouped_norm(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x (N, H, W, C), gamma, beta (C,)``, and a skip (N, 1, 1, C) or (N, C) and a bias (C,) to
    add first -> y, sum; com.microsoft GroupNorm, SkipGroupNorm. NCHW with channels_last = 0.
    """
    x, gamma, beta, *added = ins
    last = site.attr("channels_last", 1)
    channels = x[-1] if last else x[1]
    groups = site.attr("groups")
    outer, inner = c.fresh(groups), c.fresh(len(channels) // groups)
    c.factor(channels, (outer, inner))
    text = f"statistics of {site.node.op_type} run over a group"
    c.inexact(inner, Reason.NORM_STATISTICS, text)
    for labels in x[1:-1] if last else x[2:]:
        c.freeze(labels, Reason.SPATIAL_AXIS, text)
    for parameters in (gamma, beta, *(extra for extra in added if extra)):
        own = parameters[1 if len(parameters) == 4 and not last else -1]
        c.tie(own, channels, "parameters of the norm")
    c.resize("groups", groups, {0: outer})
    return [x] * len(site.node.outputs)


def split_gelu(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``left * gelu(right)`` of the halves of x + bias; com.microsoft BiasSplitGelu."""
    x = broadcast(ins, c, "bias")
    halves = x[-1].reshape(2, -1)
    c.tie(halves[0], halves[1], "a gate and what it gates")
    return [(*x[:-1], halves[0])]


def position_bias(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``q (B, T, H*D), its bias (H*D,), rel (1, H, T, T), w (D, 8), b, eco (1, H, 1, 1)
    -> (B, H, T, T)``; com.microsoft GatedRelativePositionBias.
    """
    query, bias, relative, weight, _, eco = ins[:6]
    heads, dim = relative[1], weight[0]
    c.factor(query[-1], (heads, dim))
    c.tie(bias[0], query[-1], "bias")
    c.recur(1, 0)
    c.tie(eco[1], heads, "a number per head")
    c.head(heads)
    c.read(query[-1])
    c.freeze(weight[1], Reason.UNSUPPORTED_FORM, "numbers that a gate sums in two halves")
    c.macs(heads, dim, weight[1], scale=site.out_shapes[0][0] * site.out_shapes[0][2])
    shape = site.out_shapes[0]
    return [(*stay(shape[:1], c), heads, *stay(shape[2:], c))]


RULES: Mapping[str, Rule] = {
    "SimplifiedLayerNormalization": over_axes,  # onnxruntime writes it into the default domain
    "com.microsoft::BiasAdd": elementwise,
    "com.microsoft::BiasGelu": elementwise,
    "com.microsoft::BiasSplitGelu": split_gelu,
    "com.microsoft::ConvTransposeWithDynamicPads": padded_conv_transpose,
    "com.microsoft::EmbedLayerNormalization": embedding_norm,
    "com.microsoft::FastGelu": elementwise,
    "com.microsoft::FusedConv": fused_conv,
    "com.microsoft::FusedGemm": gemm,
    "com.microsoft::FusedMatMul": fused_matmul,
    "com.microsoft::FusedMatMulActivation": fused_matmul,
    "com.microsoft::GatedRelativePositionBias": position_bias,
    "com.microsoft::Gelu": elementwise,
    "com.microsoft::GroupNorm": grouped_norm,
    "com.microsoft::NhwcConv": channels_last_conv,
    "com.microsoft::NhwcFusedConv": channels_last_conv,
    "com.microsoft::QuickGelu": elementwise,
    "com.microsoft::SkipGroupNorm": grouped_norm,
    "com.microsoft::SkipLayerNormalization": skip_norm,
    "com.microsoft::SkipSimplifiedLayerNormalization": skip_norm,
    "com.microsoft::TransposeMatMul": fused_matmul,
}

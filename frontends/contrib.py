"""Output shapes of operators that onnx's own inference does not know: those of onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import onnx
import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.ops import op_key
from prunec.frontends import contrib_quantised as quantised
from prunec.frontends.bindings import Shape
from prunec.frontends.structure import graphs_of

DOMAIN = "com.microsoft"
Types = Sequence[ir.DataType | None]
Known = tuple[Shape, ir.DataType | None]
# Shapes and element types of the inputs, () and None where absent -> those of the outputs, in
# order; None for an output of which nothing is known, and nothing at all after the last one known.
Shaper = Callable[[ir.Node, Sequence[Shape], Types], Sequence[Known | None]]


def infer(
    node: ir.Node, shapes: Sequence[Shape], types: Types, table: Mapping[str, Shaper]
) -> Sequence[Known | None]:
    """What is known of the outputs of a node; nothing for other operators.

    A form that fits no row's formula (a wrong rank, a missing attribute) leaves them unknown.
    """
    shaper = table.get(op_key(node))
    if shaper is None:
        return ()
    try:
        known = shaper(node, shapes, types)
    except (IndexError, TypeError, ValueError, ZeroDivisionError):
        return ()
    return [k if k is not None and all(n >= 0 for n in k[0]) else None for k in known]


def set_apart(proto: onnx.ModelProto) -> None:
    """Give onnxruntime's own operators its domain, in place: the checker knows none of them.

    In the default domain, where onnxruntime writes some, it would take them for mistakes.
    """
    own = {op for op in SHAPERS if "::" not in op}
    found = [n for g in graphs_of(proto) for n in g.node if n.op_type in own and not n.domain]
    for node in found:
        node.domain = DOMAIN
    if found and all(entry.domain != DOMAIN for entry in proto.opset_import):
        proto.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))


def like_first(_: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    """Every output is like the first input."""
    return [(shapes[0], types[0])] * 2


def _floats_like_first(_: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    return [(shapes[0], ir.DataType.FLOAT)]


def _broadcast(_: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    return [(_stretch([s for s in shapes if s]), types[0])]


def _stretch(shapes: Sequence[Shape]) -> Shape:
    rank = max((len(s) for s in shapes), default=0)
    whole = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    return tuple(max(sizes) if 0 not in sizes else 0 for sizes in zip(*whole, strict=True))


def _matmul(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    a, b = (_operand(node, shape, side) for shape, side in zip(shapes, "AB", strict=False))
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    batch = _stretch([left[:-2], right[:-2]])
    rows = left[-2:-1] if len(a) > 1 else ()
    columns = right[-1:] if len(b) > 1 else ()
    return [((*batch, *rows, *columns), types[0])]


def _operand(node: ir.Node, shape: Shape, side: str) -> Shape:
    if len(shape) < 2:
        return shape
    if attribute(node, f"transBatch{side}", 0):
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], shape[-1], shape[-2]) if attribute(node, f"trans{side}", 0) else shape


def _gemm(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    rows = shapes[0][1 if attribute(node, "transA", 0) else 0]
    return [((rows, shapes[1][0 if attribute(node, "transB", 0) else 1]), types[0])]


def _conv(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    x, w = shapes[:2]
    return [((x[0], w[0], *_windows(node, x[2:], w[2:])), types[0])]


def _channels_last_conv(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    x, w = shapes[:2]
    return [((x[0], *_windows(node, x[1:-1], w[2:]), w[0]), types[0])]


def _pool(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    space = _windows(node, shapes[0][2:], attribute(node, "kernel_shape"))
    return [((*shapes[0][:2], *space), types[0])]


def _windows(node: ir.Node, space: Shape, kernel: Shape) -> Shape:
    """Positions of a sliding window; ONNX Conv and MaxPool."""
    rank = len(space)
    strides = attribute(node, "strides") or (1,) * rank
    dilations = attribute(node, "dilations") or (1,) * rank
    pads = attribute(node, "pads") or (0,) * (2 * rank)
    padding = attribute(node, "auto_pad", "NOTSET")
    out = []
    for k, (n, size) in enumerate(zip(space, kernel, strict=True)):
        if padding.startswith("SAME"):
            out.append(math.ceil(n / strides[k]))
            continue
        around = pads[k] + pads[k + rank] if padding == "NOTSET" else 0
        room = n + around - dilations[k] * (size - 1) - 1
        steps = math.ceil if attribute(node, "ceil_mode", 0) else math.floor
        out.append(steps(room / strides[k]) + 1)
    return tuple(out)


def _global_pool(_: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    return [((*shapes[0][:2], *[1] * (len(shapes[0]) - 2)), types[0])]


def _skip_norm(_: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    x, reduced = (shapes[0], types[0]), ((*shapes[0][:-1], 1), ir.DataType.FLOAT)
    return [x, reduced, reduced, x]


def _norm(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    first = attribute(node, "axis", -1) % len(shapes[0])
    reduced = (*shapes[0][:first], *[1] * (len(shapes[0]) - first))
    return [(shapes[0], types[0]), (reduced, ir.DataType.FLOAT)]


def _embedding_norm(_: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    out = ((*shapes[0], shapes[2][1]), types[2])
    return [out, (shapes[0][:1], ir.DataType.INT32), out]


def _attention(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known | None]:
    (batch, tokens, _), (_, width) = shapes[:2]
    sizes = attribute(node, "qkv_hidden_sizes") or (width // 3,) * 3
    past = shapes[4] if len(shapes) > 4 else ()
    heads = attribute(node, "num_heads")
    total = tokens + (past[3] if past else 0)
    shared = bool(attribute(node, "past_present_share_buffer", 0))
    present = past if shared else (2, batch, heads, total, sizes[1] // heads)
    return [((batch, tokens, sizes[2]), types[0]), (present, types[0])]


def _multi_head(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known | None]:
    q, k, v = (*shapes, (), ())[:3]
    heads = attribute(node, "num_heads")
    batch, tokens = q[:2]
    if len(q) == 5:
        dim = width = q[4]
        keys = tokens
    else:
        dim = q[2] // heads
        keys = k[2] if len(k) == 4 else k[1]
        width = dim if len(k) == 5 else v[3] if len(v) == 4 else v[2] // heads
    past = shapes[6][2] if len(shapes) > 6 and shapes[6] else 0
    total = past + keys
    out, scores = (batch, tokens, heads * width), (batch, heads, tokens, total)
    cached = [(batch, heads, total, dim), (batch, heads, total, width)]
    return [(shape, types[0]) for shape in (out, *cached, scores)]


def _group_query(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known | None]:
    q, k = shapes[:2]
    heads, kv = attribute(node, "num_heads"), attribute(node, "kv_num_heads")
    dim = q[2] // (heads if k else heads + 2 * kv)
    out = ((q[0], q[1], heads * dim), types[0])
    past = shapes[3] if len(shapes) > 3 else ()
    if past:  # of how many tokens the caller's buffer has room for, only the caller knows
        return [out]
    present = ((q[0], kv, q[1], dim), types[0])
    return [out, present, present]


def _split_gelu(_: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    return [((*shapes[0][:-1], shapes[0][-1] // 2), types[0])]


def _position_bias(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    batch = shapes[6][0] if len(shapes) > 6 and shapes[6] else shapes[0][0]
    return [((batch, *shapes[2][1:]), types[0])]


# Keys are "domain::OpType"; onnxruntime writes some of its own into the default domain.
SHAPERS: Mapping[str, Shaper] = {
    "SimplifiedLayerNormalization": _norm,
    "ai.onnx.ml::Binarizer": _floats_like_first,
    "ai.onnx.ml::Imputer": _floats_like_first,
    "ai.onnx.ml::Normalizer": _floats_like_first,
    "ai.onnx.ml::Scaler": _floats_like_first,
    "com.microsoft::Attention": _attention,
    "com.microsoft::BiasAdd": _broadcast,
    "com.microsoft::BiasGelu": _broadcast,
    "com.microsoft::BiasSplitGelu": _split_gelu,
    "com.microsoft::DequantizeLinear": quantised.operands(like_first, (0,), 1),
    "com.microsoft::DynamicQuantizeMatMul": quantised.operands(_matmul, (0, 1), 0),
    "com.microsoft::EmbedLayerNormalization": _embedding_norm,
    "com.microsoft::FastGelu": like_first,
    "com.microsoft::FusedConv": _conv,
    "com.microsoft::FusedGemm": _gemm,
    "com.microsoft::FusedMatMul": _matmul,
    "com.microsoft::FusedMatMulActivation": _matmul,
    "com.microsoft::GatherBlockQuantized": quantised.gather_block_quantized,
    "com.microsoft::GatedRelativePositionBias": _position_bias,
    "com.microsoft::Gelu": like_first,
    "com.microsoft::GroupNorm": like_first,
    "com.microsoft::GroupQueryAttention": _group_query,
    "com.microsoft::MatMulBnb4": quantised.matmul_nbits,
    "com.microsoft::MatMulIntegerToFloat": quantised.operands(_matmul, (0, 1), 2),
    "com.microsoft::MatMulNBits": quantised.matmul_nbits,
    "com.microsoft::MultiHeadAttention": _multi_head,
    "com.microsoft::NhwcConv": _channels_last_conv,
    "com.microsoft::NhwcFusedConv": _channels_last_conv,
    "com.microsoft::NhwcMaxPool": quantised.channels(_pool),
    "com.microsoft::QAttention": quantised.qattention,
    "com.microsoft::QGemm": quantised.operands(_gemm, (0, 3), 8),
    "com.microsoft::QLinearAdd": quantised.operands(_broadcast, (0, 3), 7),
    "com.microsoft::QLinearAveragePool": quantised.channels(quantised.operands(_pool, (0,), 4)),
    "com.microsoft::QLinearConcat": quantised.joined,
    "com.microsoft::QLinearConv": quantised.channels(quantised.operands(_conv, (0, 3), 7)),
    "com.microsoft::QLinearGlobalAveragePool": quantised.channels(
        quantised.operands(_global_pool, (0,), 4)
    ),
    "com.microsoft::QLinearLeakyRelu": quantised.operands(like_first, (0,), 4),
    "com.microsoft::QLinearMul": quantised.operands(_broadcast, (0, 3), 7),
    "com.microsoft::QLinearSigmoid": quantised.operands(like_first, (0,), 4),
    "com.microsoft::QLinearSoftmax": quantised.operands(like_first, (0,), 4),
    "com.microsoft::QLinearWhere": quantised.operands(_broadcast, (0, 1, 4), 8),
    "com.microsoft::QuantizeLinear": quantised.operands(like_first, (0,), 2),
    "com.microsoft::QuickGelu": like_first,
    "com.microsoft::RotaryEmbedding": like_first,
    "com.microsoft::SkipGroupNorm": like_first,
    "com.microsoft::SkipLayerNormalization": _skip_norm,
    "com.microsoft::SkipSimplifiedLayerNormalization": _skip_norm,
    "com.microsoft::TransposeMatMul": _matmul,
}

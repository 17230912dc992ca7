"""Output shapes of onnxruntime's quantised operators, from those of their float forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from prunec.compiler.constants import attribute

if TYPE_CHECKING:
    from prunec.frontends.bindings import Shape
    from prunec.frontends.contrib import Known, Shaper, Types


def operands(shaper: Shaper, positions: Sequence[int], like: int) -> Shaper:
    """The float form's shape, from the inputs that are its operands.

    like: the input whose element type the output has; float32 where it is absent.
    """

    def quantised(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
        present = [p for p in positions if p < len(shapes)]
        known = shaper(node, [shapes[p] for p in present], [types[p] for p in present])
        kind = types[like] if like < len(types) else None
        return [(k[0], kind or ir.DataType.FLOAT) for k in known if k is not None]

    return quantised


def channels(shaper: Shaper) -> Shaper:
    """The same for data whose channels are last, where the node says so."""

    def either(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known | None]:
        if not (attribute(node, "channels_last", 0) or node.op_type.startswith("Nhwc")):
            return shaper(node, shapes, types)
        batch, *space, count = shapes[0]
        known = shaper(node, [(batch, count, *space), *shapes[1:]], types)
        return [k and ((k[0][0], *k[0][2:], k[0][1]), k[1]) for k in known]

    return either


def joined(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    """com.microsoft QLinearConcat."""
    parts = shapes[2::3]
    axis = attribute(node, "axis") % len(parts[0])
    total = sum(part[axis] for part in parts)
    return [((*parts[0][:axis], total, *parts[0][axis + 1 :]), types[1])]


def matmul_nbits(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    """com.microsoft MatMulNBits and its relatives."""
    return [((*shapes[0][:-1], attribute(node, "N")), types[0])]


def gather_block_quantized(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    """com.microsoft GatherBlockQuantized: bytes hold several numbers of the last axis."""
    table = list(shapes[0])
    if types[0] == ir.DataType.UINT8:
        table[-1] *= 8 // attribute(node, "bits", 4)
    axis = attribute(node, "gather_axis", 0) % len(table)
    return [((*table[:axis], *shapes[1], *table[axis + 1 :]), types[2])]


def qattention(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
    """com.microsoft QAttention: a third of the columns of the joint projection."""
    return [((*shapes[0][:-1], shapes[1][1] // 3), types[3])]

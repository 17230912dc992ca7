"""Integer forms of the operators that multiply and sum, and the way from and to integers.

A removed channel is the integer that stands for zero. Scales and zero points follow the axis along
which there is one for each channel, or each block of channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from prunec.compiler.encoding import Encoding
from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.reasons import Reason
from prunec.compiler.rules.contraction import conv, gemm, matmul
from prunec.compiler.rules.fused import channels_last_conv
from prunec.compiler.site import Rule, Site, Unsupported, is_frozen

SCALES = "a scale or zero point for each channel"


def quantize(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x, scale, zero point -> integers of the shape of x``; ONNX QuantizeLinear."""
    _scaled(site, ins, c)
    if len(site.in_shapes[1]) == 0 or site.in_shapes[1] == (1,):
        c.zero(0, site.name(2))
    return [ins[0]]


def dequantize(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``integers, scale, zero point -> floats of the same shape``; ONNX DequantizeLinear."""
    _scaled(site, ins, c)
    axis, block = site.attr("axis", 1), site.attr("block_size", 0)
    c.encode(0, Encoding((site.name(1),), site.name(2), axis % max(site.rank, 1), block))
    return [ins[0]]


def _scaled(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> None:
    """Tie scale and zero point: one number, one per index of an axis, or one per block."""
    x, axis, block = ins[0], site.attr("axis", 1), site.attr("block_size", 0)
    auxiliary(site, c, 1, 2)
    for p in ins[1:3]:
        if x and len(p) == 1 and len(p[0]) > 1:
            c.tie(p[0], x[axis % site.rank], SCALES)
        elif len(p) == len(x) > 1 and block > 0:
            along = axis % site.rank
            for k, (labels, own) in enumerate(zip(x, p, strict=True)):
                if k != along:
                    c.tie(own, labels, SCALES)
                elif len(own) > 1:  # one block may have any size
                    in_blocks(labels, own, block, c)
        elif any(len(labels) > 1 for labels in p):
            raise Unsupported(f"scales of rank {len(p)} without block_size")


def needs(rule: Rule, *positions: int) -> Rule:
    """The rule where these inputs are there; no schema checks onnxruntime's own operators."""

    def checked(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
        missing = [p for p in positions if not site.has(p)]
        if missing:
            raise Unsupported(f"input {missing[0]} is missing")
        return rule(site, ins, c)

    return checked


def in_blocks(cells: Labels, scales: Labels, size: int, c: Coupler) -> None:
    """`size` consecutive channels share an entry of `scales`: they leave together, with it.

    What does not fill a block stays: blocks behind a shorter one would shift.
    """
    full = len(cells) // size
    text = f"{size} channels share a scale"
    c.freeze(cells[full * size :], Reason.PACKED_BLOCK, text)
    if is_frozen(scales):  # one block is the whole axis
        c.freeze(cells, Reason.PACKED_BLOCK, text)
    else:
        c.tie(cells[: full * size].reshape(full, size), scales[:full, None], text)


def dynamic_quantize(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x -> integers, scale, zero point`` from the range of x; ONNX DynamicQuantizeLinear.

    The range includes zero by definition, so channels that are zero do not change it.
    """
    zero_point = site.node.outputs[2].name if len(site.node.outputs) > 2 else None
    if zero_point:
        c.zero(0, zero_point)
    return [ins[0], (), ()][: len(site.node.outputs)]


def qlinear_conv(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Inputs x, its scale and zero point, w, w's, y's, bias (int32); ONNX QLinearConv.

    That of com.microsoft may have its channels last.
    """
    auxiliary(site, c, 1, 2, 4, 5, 6, 7)
    per_channel(ins, c, ins[3][0], 4, 5)
    c.encode(3, Encoding((site.name(4),), site.name(5)))
    c.encode(8, Encoding((site.name(1), site.name(4))))
    c.zero(0, site.name(7))
    rule = channels_last_conv if site.attr("channels_last", 0) else conv
    return _contract(rule, site, ins, c, (0, 3, 8), {0: 2})


def conv_integer(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x, w, x's zero point, w's -> int32``, scaled by others; ONNX ConvInteger."""
    auxiliary(site, c, 2, 3)
    per_channel(ins, c, ins[1][0], 3)
    c.encode(1, Encoding((), site.name(3)))
    c.zero(0, "")
    return _contract(conv, site, ins, c, (0, 1), {0: 2})


def qlinear_matmul(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Inputs a, its scale and zero point, b, b's, y's; ONNX QLinearMatMul."""
    auxiliary(site, c, 1, 2, 4, 5, 6, 7)
    _matrix_scales(ins, c, 0, -2, 1, 2)
    _matrix_scales(ins, c, 3, -1, 4, 5)
    c.encode(0, Encoding((site.name(1),), site.name(2), len(ins[0]) - 2))
    c.encode(3, Encoding((site.name(4),), site.name(5), len(ins[3]) - 1))
    c.zero(0, site.name(7))
    return _contract(matmul, site, ins, c, (0, 3), {0: 2, 3: 5})


def matmul_integer(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``a, b, a's zero point, b's -> int32``, scaled by others; ONNX MatMulInteger."""
    auxiliary(site, c, 2, 3)
    _matrix_scales(ins, c, 0, -2, 2)
    _matrix_scales(ins, c, 1, -1, 3)
    c.encode(0, Encoding((), site.name(2), len(ins[0]) - 2))
    c.encode(1, Encoding((), site.name(3), len(ins[1]) - 1))
    c.zero(0, "")
    return _contract(matmul, site, ins, c, (0, 1), {0: 2, 1: 3})


def matmul_integer_to_float(
    site: Site, ins: Sequence[AxisLabels], c: Coupler
) -> Sequence[AxisLabels]:
    """Inputs a, b, both scales, both zero points, bias; com.microsoft MatMulIntegerToFloat."""
    auxiliary(site, c, 2, 3, 4, 5)
    _matrix_scales(ins, c, 0, -2, 2, 4)
    _matrix_scales(ins, c, 1, -1, 3, 5)
    per_channel(ins, c, ins[1][-1], 6)
    c.encode(0, Encoding((site.name(2),), site.name(4), len(ins[0]) - 2))
    c.encode(1, Encoding((site.name(3),), site.name(5), len(ins[1]) - 1))
    return _contract(matmul, site, ins, c, (0, 1), {0: 4, 1: 5})


def dynamic_quantize_matmul(
    site: Site, ins: Sequence[AxisLabels], c: Coupler
) -> Sequence[AxisLabels]:
    """Inputs a (floats), b, b's scale and zero point, bias; com.microsoft DynamicQuantizeMatMul."""
    auxiliary(site, c, 2, 3)
    _matrix_scales(ins, c, 1, -1, 2, 3)
    per_channel(ins, c, ins[1][-1], 4)
    c.encode(1, Encoding((site.name(2),), site.name(3), len(ins[1]) - 1))
    return _contract(matmul, site, ins, c, (0, 1), {1: 3})


def qgemm(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Inputs a, its scale and zero point, b, b's, bias (int32), y's; com.microsoft QGemm."""
    auxiliary(site, c, 1, 2, 4, 5, 7, 8)
    axis = 0 if site.attr("transB", 0) else 1
    per_channel(ins, c, ins[3][axis], 4, 5)
    c.encode(3, Encoding((site.name(4),), site.name(5), axis))
    c.encode(6, Encoding((site.name(1), site.name(4))))
    if site.has(8):  # without it the result is float
        c.zero(0, site.name(8))
    return _contract(gemm, site, ins, c, (0, 3, 6), {0: 2, 3: 5})


def auxiliary(site: Site, c: Coupler, *positions: int) -> None:
    """These inputs say how to read others: they are no parameters."""
    c.auxiliary.update((site.node.name or "", position) for position in positions)


def per_channel(ins: Sequence[AxisLabels], c: Coupler, labels: Labels, *positions: int) -> None:
    """Vectors at these positions, where present, have one entry for each channel of an axis."""
    for p in positions:
        if p < len(ins) and ins[p] and len(ins[p][-1]) > 1:
            c.tie(ins[p][-1], labels, SCALES)


def _matrix_scales(
    ins: Sequence[AxisLabels], c: Coupler, matrix: int, axis: int, *positions: int
) -> None:
    """Scales of a matrix: one number, a vector along its rows or columns, or its rank and units."""
    x = ins[matrix]
    for p in (ins[k] for k in positions if k < len(ins)):
        if len(p) == 1 and len(p[0]) > 1:
            c.tie(p[0], x[max(axis, -len(x))], SCALES)
        elif len(p) > 1:
            if len(p) != len(x):
                raise Unsupported(f"scales of rank {len(p)} for rank {len(x)}")
            for own, labels in zip(p, x, strict=True):
                if len(own) > 1:
                    c.tie(own, labels, SCALES)


def _contract(
    rule: Rule,
    site: Site,
    ins: Sequence[AxisLabels],
    c: Coupler,
    positions: Sequence[int],
    zero_points: Mapping[int, int],
) -> Sequence[AxisLabels]:
    """Apply a contraction's rule to the inputs that are its operands.

    zero_points: operand -> where its zero point is. An activation whose removed channels are not
    that integer stays whole: they would add to every sum.
    """
    present = [p for p in positions if p < len(ins)]
    gated = []
    for p in present:
        exact = site.gated_at(p, zero_points[p]) if p in zero_points else site.gated(p)
        gated.append(exact)
        if p in zero_points and not exact and not site.weights[p]:
            for labels in ins[p]:
                c.freeze(labels, Reason.UNSUPPORTED_FORM, "integers whose zero is not known")

    def pick(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[p] for p in present)

    view = replace(
        site,
        in_shapes=pick(site.in_shapes),
        constants=pick(site.constants),
        weights=pick(site.weights),
        floats=tuple(gated),
        zeros=(),
    )
    return rule(view, [ins[p] for p in present], c)


RULES: Mapping[str, Rule] = {
    "ConvInteger": conv_integer,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": dynamic_quantize,
    "MatMulInteger": matmul_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize,
    "com.microsoft::DequantizeLinear": needs(dequantize, 0, 1),
    "com.microsoft::DynamicQuantizeMatMul": needs(dynamic_quantize_matmul, 0, 1),
    "com.microsoft::MatMulIntegerToFloat": needs(matmul_integer_to_float, 0, 1),
    "com.microsoft::QGemm": needs(qgemm, 0, 3),
    "com.microsoft::QLinearConv": needs(qlinear_conv, 0, 3),
    "com.microsoft::QuantizeLinear": needs(quantize, 0, 1),
}

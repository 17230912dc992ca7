"""com.microsoft QLinear operators that work index by index, pool or join: integers in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from prunec.compiler.labels import AxisLabels, Coupler
from prunec.compiler.reasons import Reason
from prunec.compiler.rules.contraction import broadcast
from prunec.compiler.rules.indexing import concat
from prunec.compiler.rules.quantised import auxiliary, needs
from prunec.compiler.site import Rule, Site, Unsupported, stay


def binary(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Inputs a, its scale and zero point, b, b's, y's; QLinearAdd, QLinearMul."""
    auxiliary(site, c, 1, 2, 4, 5, 6, 7)
    c.zero(0, site.name(7))
    return [broadcast([ins[0], ins[3]], c, "element-wise")]


def where(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Inputs condition, a, its scale and zero point, b, b's, y's; QLinearWhere."""
    auxiliary(site, c, 2, 3, 5, 6, 7, 8)
    c.zero(0, site.name(8))
    return [broadcast([ins[0], ins[1], ins[4]], c, "element-wise")]


def unary(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Inputs x, its scale and zero point, y's; QLinearLeakyRelu, QLinearSigmoid."""
    auxiliary(site, c, 1, 2, 3, 4)
    c.zero(0, site.name(4))
    return [ins[0]]


def softmax(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """As `unary`, over one axis from opset 13 on and over all axes from it on before."""
    axis = site.axis(-1)
    last = axis + 1 if site.attr("opset", 13) >= 13 else site.rank
    for labels in ins[0][axis:last]:
        c.freeze(labels, Reason.SOFTMAX_AXIS, "a softmax of integers runs over it")
    return unary(site, ins, c)


def pool(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """As `unary`; batch and channels pass. QLinearAveragePool, QLinearGlobalAveragePool."""
    unary(site, ins, c)
    return _spatial(site, ins[0], c, bool(site.attr("channels_last", 0)))


def max_pool(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """A pool of integers with channels last, which keep their zero point; NhwcMaxPool."""
    return _spatial(site, ins[0], c, True)


def _spatial(site: Site, x: AxisLabels, c: Coupler, is_last: bool) -> Sequence[AxisLabels]:
    if len(site.out_shapes[0]) != len(x):
        raise Unsupported("a pool that changes the number of axes")
    out = list(stay(site.out_shapes[0], c))
    passing = (0, len(x) - 1 if is_last else 1)
    for axis, labels in enumerate(x):
        if axis in passing:
            out[axis] = labels
        else:
            c.freeze(labels, Reason.SPATIAL_AXIS, f"a spatial axis of {site.node.op_type}")
    return [tuple(out)]


def join(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Inputs y's scale and zero point, then triples x, its scale, its zero point; QLinearConcat."""
    joined = range(2, len(ins), 3)
    auxiliary(site, c, *(k for k in range(len(ins)) if k not in joined))
    c.zero(0, site.name(1))
    view = replace(site, in_shapes=tuple(site.in_shapes[k] for k in joined))
    return concat(view, [ins[k] for k in joined], c)


RULES: Mapping[str, Rule] = {
    "com.microsoft::NhwcMaxPool": needs(max_pool, 0),
    "com.microsoft::QLinearAdd": needs(binary, 0, 3),
    "com.microsoft::QLinearAveragePool": needs(pool, 0),
    "com.microsoft::QLinearConcat": needs(join, 2),
    "com.microsoft::QLinearGlobalAveragePool": needs(pool, 0),
    "com.microsoft::QLinearLeakyRelu": needs(unary, 0),
    "com.microsoft::QLinearMul": needs(binary, 0, 3),
    "com.microsoft::QLinearSigmoid": needs(unary, 0),
    "com.microsoft::QLinearSoftmax": needs(softmax, 0),
    "com.microsoft::QLinearWhere": needs(where, 0, 1, 4),
}

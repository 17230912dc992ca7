"""Operators that work index by index, with broadcasting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunec.compiler.labels import AxisLabels, Coupler
from prunec.compiler.rules.contraction import broadcast
from prunec.compiler.site import Rule, Site, stay


def elementwise(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """All inputs broadcast against each other; every output has the broadcast shape."""
    out = broadcast(ins, c, "element-wise")
    return [out] * len(site.node.outputs)


def first_input(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """The output has the axes of the first input; further inputs are parameters of the op."""
    for position in range(1, len(ins)):
        c.auxiliary.add((site.node.name or "", position))
    return [ins[0]] * len(site.node.outputs)


def constant(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """A tensor stored in the node: its axes are tied by whoever reads it."""
    return [tuple(c.fresh(n) if n > 1 else c.frozen(n) for n in site.out_shapes[0])]


def constant_of_shape(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Every axis is new; its length follows what it gets tied to."""
    (out,) = constant(site, ins, c)
    target = site.constants[0]
    if target is not None:
        c.resize(0, target, dict(enumerate(out)))
        return [out]
    return [stay(site.out_shapes[0], c)]


def shape_arithmetic(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Shape, Size, Range, ...: the result is about the axes, it has none of them."""
    return [stay(shape, c) for shape in site.out_shapes]


ELEMENTWISE = [
    "Abs",
    "Acos",
    "Acosh",
    "And",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pow",
    "PRelu",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "SwiGLU",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Where",
    "Xor",
]
FIRST_INPUT = (
    "Bernoulli BitCast Cast CastLike Clip Dropout Identity RandomNormalLike RandomUniformLike"
)

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(FIRST_INPUT.split(), first_input),
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Range": shape_arithmetic,
    "Shape": shape_arithmetic,
    "Size": shape_arithmetic,
}

"""Element-wise arithmetic, comparison and logic."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from prunec.runtime.torch_view.row import ALL_INPUTS, Call, Row

BOTH = frozenset([0, 1])


def _plain(function: Callable[..., Tensor]) -> Row:
    return Row(lambda _, *inputs: function(*inputs))


def _arithmetic(function: Callable[..., Tensor]) -> Row:
    return Row(lambda _, a, b: function(a, b), operands=BOTH)


def _fold(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda _, *inputs: functools.reduce(function, inputs)


def div(_: Call, a: Tensor, b: Tensor) -> Tensor:
    """ONNX Div; integers truncate towards zero."""
    integer = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc" if integer else None)


def mod(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """ONNX Mod: the sign of the divisor, with `fmod` that of the dividend."""
    return torch.fmod(a, b) if call.get("fmod", 0) else torch.remainder(a, b)


def power(_: Call, x: Tensor, y: Tensor) -> Tensor:
    """ONNX Pow: the element type of the base."""
    return torch.pow(x, y) if x.dtype == y.dtype else torch.pow(x, y).to(x.dtype)


def mean(_: Call, *inputs: Tensor) -> Tensor:
    """ONNX Mean, over the inputs."""
    return functools.reduce(torch.add, inputs) / len(inputs)


def shift(call: Call, x: Tensor, y: Tensor) -> Tensor:
    """ONNX BitShift."""
    left = call.get("direction") == "LEFT"
    return torch.bitwise_left_shift(x, y) if left else torch.bitwise_right_shift(x, y)


def is_inf(call: Call, x: Tensor) -> Tensor:
    """ONNX IsInf."""
    found = torch.zeros_like(x, dtype=torch.bool)
    if call.get("detect_positive", 1):
        found |= torch.isposinf(x)
    if call.get("detect_negative", 1):
        found |= torch.isneginf(x)
    return found


UNARY: Mapping[str, Callable[..., Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
}
BINARY: Mapping[str, Callable[..., Tensor]] = {
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Or": torch.logical_or,
    "Where": torch.where,
    "Xor": torch.logical_xor,
}
ROWS: Mapping[str, Row] = {
    **{op: _plain(function) for op, function in {**UNARY, **BINARY}.items()},
    "Add": _arithmetic(torch.add),
    "BitShift": Row(shift),
    "Div": Row(div, operands=BOTH),
    "IsInf": Row(is_inf),
    "Max": Row(_fold(torch.maximum)),
    "Mean": Row(mean, operands=ALL_INPUTS),
    "Min": Row(_fold(torch.minimum)),
    "Mod": Row(mod),
    "Mul": _arithmetic(torch.mul),
    "Pow": Row(power, amounts=frozenset([1])),
    "Sub": _arithmetic(torch.sub),
    "Sum": Row(_fold(torch.add), operands=ALL_INPUTS),
}

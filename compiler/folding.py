"""Evaluation of the float operators that stand inside residual branches, on small constants.

A value that is the same all along an axis is held once: the axis has size 1 here. That is exact for
what works index by index, and for means and maxima, which is all that is in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import erf, sqrt
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import EVALUATORS, attribute, axes_of
from prunec.compiler.ops import op_key

Array = NDArray[Any]
Fold = Callable[[ir.Node, Sequence[Any]], Any]


class NotFoldable(Exception):
    """The node is none that the table knows, or has a form that it does not."""


def fold(node: ir.Node, inputs: Sequence[Array | None]) -> Array:
    """The first output of a node all of whose inputs are known; None where one is absent.

    Raises NotFoldable. Results have the type of the first input, unless the node says another.
    """
    key = op_key(node)
    if key not in FOLDS:
        raise NotFoldable(key)
    try:
        with np.errstate(all="ignore"):
            return np.asarray(FOLDS[key](node, inputs))
    except (ValueError, IndexError, TypeError, AttributeError) as why:
        raise NotFoldable(f"{key}: {why}") from None


def _wide(function: Callable[[Array], Array]) -> Fold:
    """Index by index, in float64, back in the type of the input."""
    return lambda _, ins: function(ins[0].astype(np.float64)).astype(ins[0].dtype)


def _with(name: str, default: float, function: Callable[[Array, float], Array]) -> Fold:
    """The same with a parameter that is an attribute."""

    def run(node: ir.Node, ins: Sequence[Any]) -> Array:
        wide = function(ins[0].astype(np.float64), attribute(node, name, default))
        return wide.astype(ins[0].dtype)

    return run


def _known(name: str) -> Fold:
    """As shape arithmetic does it."""
    return lambda node, ins: _in_type(EVALUATORS[name](node, ins, [None] * len(ins)), ins[0])


def _in_type(result: Any, like: Array) -> Array:
    array = np.asarray(result)
    return array if array.dtype.kind in "biu" else array.astype(like.dtype)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(x, 0))


def _gelu(node: ir.Node, ins: Sequence[Any]) -> Array:
    x = ins[0].astype(np.float64)
    if attribute(node, "approximate", "none") == "tanh":
        half = np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    else:
        half = _erf(x / sqrt(2))
    return np.asarray(x * (1 + half) / 2).astype(ins[0].dtype)


def _erf(x: Array) -> Array:
    return np.array([erf(v) for v in x.reshape(-1)]).reshape(x.shape)


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _hard_sigmoid(node: ir.Node, ins: Sequence[Any]) -> Array:
    alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    return np.asarray(np.clip(alpha * ins[0] + beta, 0, 1)).astype(ins[0].dtype)


def _clip(node: ir.Node, ins: Sequence[Any]) -> Array:
    low, high = [*ins, None, None][1:3]
    low, high = attribute(node, "min", low), attribute(node, "max", high)
    return np.asarray(ins[0] if low is high is None else np.clip(ins[0], low, high))


def _prelu(_: ir.Node, ins: Sequence[Any]) -> Array:
    return np.asarray(np.where(ins[0] < 0, ins[0] * ins[1], ins[0]))


def _dropout(node: ir.Node, ins: Sequence[Any]) -> Array:
    training = ins[2] if len(ins) > 2 else None
    if len(node.outputs) > 1 and node.outputs[1].uses():
        raise NotFoldable("a Dropout whose mask is read")
    if training is not None and np.any(training):
        raise NotFoldable("a Dropout that draws")
    return np.asarray(ins[0])


def _batch_norm(node: ir.Node, ins: Sequence[Any]) -> Array:
    if attribute(node, "training_mode", 0) or len(node.outputs) > 1:
        raise NotFoldable("batch statistics")
    x = ins[0].astype(np.float64)
    column = (1, -1, *[1] * (x.ndim - 2))
    scale, shift, mean, variance = (p.astype(np.float64).reshape(column) for p in ins[1:5])
    y = (x - mean) / np.sqrt(variance + attribute(node, "epsilon", 1e-5)) * scale + shift
    return np.asarray(y).astype(ins[0].dtype)


def _layer_norm(node: ir.Node, ins: Sequence[Any]) -> Array:
    if len(node.outputs) > 1 and any(v.uses() for v in node.outputs[1:]):
        raise NotFoldable("statistics that are read")
    x = ins[0].astype(np.float64)
    axes = tuple(range(attribute(node, "axis", -1) % x.ndim, x.ndim))
    x = x - x.mean(axes, keepdims=True)
    y = x / np.sqrt((x * x).mean(axes, keepdims=True) + attribute(node, "epsilon", 1e-5))
    bias = ins[2] if len(ins) > 2 and ins[2] is not None else 0
    return np.asarray(y * ins[1] + bias).astype(ins[0].dtype)


def _dequantize(node: ir.Node, ins: Sequence[Any]) -> Array:
    x, scale, zero = (*ins, None)[:3]
    levels = x.astype(np.float64) - _along(node, x, np.zeros(()) if zero is None else zero)
    return np.asarray(levels * _along(node, x, scale)).astype(scale.dtype)


def _quantize(node: ir.Node, ins: Sequence[Any]) -> Array:
    x, scale, zero = (*ins, None)[:3]
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    if kind.kind not in "iu" or (zero is None and "output_dtype" in node.attributes):
        raise NotFoldable(f"numbers of type {kind}")
    # The quotient is rounded in the type of x: onnxruntime's would differ from that of doubles.
    levels = np.rint(x / _along(node, x, scale).astype(x.dtype))
    levels = levels + _along(node, x, np.zeros(()) if zero is None else zero)
    return np.asarray(np.clip(levels, np.iinfo(kind).min, np.iinfo(kind).max)).astype(kind)


def _along(node: ir.Node, x: Array, numbers: Array) -> Array:
    """Scales or zero points: one for all, or one per index of the node's axis."""
    if attribute(node, "block_size", 0) or numbers.ndim > 1:
        raise NotFoldable("a scale for each block")
    if numbers.size == 1:
        return np.asarray(numbers.reshape(()).astype(np.float64))
    column = [1] * x.ndim
    column[attribute(node, "axis", 1) % x.ndim] = -1
    return np.asarray(numbers.astype(np.float64).reshape(column))


def _mean_of_space(_: ir.Node, ins: Sequence[Any]) -> Array:
    space = tuple(range(2, ins[0].ndim))
    return np.asarray(ins[0].mean(space, keepdims=True, dtype=np.float64)).astype(ins[0].dtype)


def _max_of_space(_: ir.Node, ins: Sequence[Any]) -> Array:
    return np.asarray(ins[0].max(tuple(range(2, ins[0].ndim)), keepdims=True))


def _window(node: ir.Node, ins: Sequence[Any]) -> Array:
    """A pool of what is the same at every position; its pads must not count."""
    counted = node.op_type == "AveragePool" and attribute(node, "count_include_pad", 0)
    if set(ins[0].shape[2:]) - {1} or counted or len(node.outputs) > 1:
        raise NotFoldable(f"a {node.op_type} of what differs from place to place")
    return np.asarray(ins[0])


def _over_axes(function: Callable[..., Any]) -> Fold:
    def run(node: ir.Node, ins: Sequence[Any]) -> Array:
        axes = axes_of(node, ins) or None
        if axes is None and attribute(node, "noop_with_empty_axes", 0):
            return np.asarray(ins[0])
        keep = bool(attribute(node, "keepdims", 1))
        return np.asarray(function(ins[0], axis=axes, keepdims=keep)).astype(ins[0].dtype)

    return run


SAME_AS_SHAPES = (
    "Abs Add Ceil Div Equal Floor Greater GreaterOrEqual Identity Less LessOrEqual Max Min Mul Neg "
    "Not Pow Reciprocal Round Sign Sqrt Sub Sum Transpose"
)
FOLDS: Mapping[str, Fold] = {
    **{name: _known(name) for name in SAME_AS_SHAPES.split()},
    "AveragePool": _window,
    "BatchNormalization": _batch_norm,
    "Cast": lambda node, ins: EVALUATORS["Cast"](node, ins, ()),
    "Clip": _clip,
    "DequantizeLinear": _dequantize,
    "Dropout": _dropout,
    "Elu": _with("alpha", 1.0, _elu),
    "Erf": _wide(_erf),
    "Exp": _wide(np.exp),
    "Gelu": _gelu,
    "GlobalAveragePool": _mean_of_space,
    "GlobalMaxPool": _max_of_space,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _wide(lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _with("alpha", 0.01, lambda x, a: np.where(x < 0, a * x, x)),
    "Log": _wide(np.log),
    "MaxPool": _window,
    "Mish": _wide(lambda x: x * np.tanh(_softplus(x))),
    "PRelu": _prelu,
    "QuantizeLinear": _quantize,
    "ReduceMax": _over_axes(np.max),
    "ReduceMean": _over_axes(np.mean),
    "ReduceMin": _over_axes(np.min),
    "Relu": lambda _, ins: np.maximum(ins[0], 0),
    "Sigmoid": _wide(_sigmoid),
    "Softplus": _wide(_softplus),
    "Tanh": _wide(np.tanh),
    "Where": lambda _, ins: np.where(*ins),
}

"""Channels of activations that have one value whatever the input is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute, axes_of
from prunec.compiler.facts import Facts
from prunec.compiler.ops import op_key
from prunec.compiler.problem import FloatArray
from prunec.compiler.walk import nodes
from prunec.passes.recovery.storage import stored, tensor_of

UNKNOWN = np.nan
# f(0) = 0 in every one of these, whatever their attributes.
KEEP_ZERO = frozenset(
    {
        "Abs", "AveragePool", "Cast", "Celu", "Dropout", "Elu", "Erf", "Floor", "Gelu",
        "GlobalAveragePool", "GlobalMaxPool", "HardSwish", "LeakyRelu", "MaxPool", "Mish", "Neg",
        "PRelu", "Relu", "Round", "Selu", "Sign", "Sin", "Softsign", "Sqrt", "Swish", "Tanh",
        "ThresholdedRelu",
    }
)  # fmt: skip
REDUCTIONS = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"})


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """values: (n,) what each channel along `axis` (counted from the left) is, NaN: it varies."""

    axis: int
    values: FloatArray


Known = Mapping[str, Channels]
Transfer = Callable[[ir.Node, Known, Facts], Channels | None]


def constant_channels(model: ir.Model, facts: Facts) -> dict[str, Channels]:
    """Activation -> its channels, where one may be constant; other activations are absent.

    Follows zero rows of weights through biases, norms, activations, pools, additions, products and
    concatenation. Infinite and NaN activations are not thought of.
    """
    known: dict[str, Channels] = {}
    for node in nodes(model.graph):
        op = op_key(node)
        transfer = _zero_stays if op in KEEP_ZERO else TRANSFERS.get(op)
        found = None if transfer is None else transfer(node, known, facts)
        name = node.outputs[0].name or ""
        shape = facts.shapes.get(name, ())
        if found is None or np.isnan(found.values).all() or found.axis >= len(shape):
            continue
        if shape[found.axis] == len(found.values):
            known[name] = found
    return known


def _of(value: ir.Value | None, known: Known) -> Channels | None:
    return None if value is None else known.get(value.name or "")


def _read(value: ir.Value | None) -> NDArray[Any] | None:
    """What a stored value holds, float64, as its reader sees it."""
    found = stored(value)
    while value is not None and (node := value.producer()) is not None and node.inputs:
        value = node.inputs[0]
    tensor = None if found is None or value is None else tensor_of(value)
    return None if tensor is None or found is None else found.read(tensor.numpy().astype(float))


def _zero_stays(node: ir.Node, known: Known, facts: Facts) -> Channels | None:
    x = _of(node.inputs[0], known)
    if x is None:
        return None
    if node.op_type == "Relu":
        return Channels(x.axis, np.maximum(x.values, 0))
    return Channels(x.axis, np.where(x.values == 0, 0.0, UNKNOWN))


def _same(node: ir.Node, known: Known, facts: Facts) -> Channels | None:
    return _of(node.inputs[0], known)


def _clip(node: ir.Node, known: Known, facts: Facts) -> Channels | None:
    x = _of(node.inputs[0], known)
    given = [attribute(node, "min"), attribute(node, "max")]
    for k, value in enumerate(node.inputs[1:3]):
        if value is not None:
            bound = _read(value)
            if bound is None:
                return None
            given[k] = float(bound)
    if x is None:
        return None
    low, high = (
        -np.inf if given[0] is None else given[0],
        np.inf if given[1] is None else given[1],
    )
    return Channels(x.axis, np.clip(x.values, low, high))


def _conv(node: ir.Node, known: Known, facts: Facts) -> Channels | None:
    w = _read(node.inputs[1])
    if w is None:
        return None
    groups = attribute(node, "group", 1)
    if node.op_type == "ConvTranspose":
        if groups != 1:
            return None
        w = np.swapaxes(w, 0, 1)
    sums = np.abs(w).reshape(*w.shape[:2], -1).sum(axis=2)
    live = _live(node.inputs[0], known, 1, w.shape[1] * groups)
    own = np.repeat(live.reshape(groups, -1), len(w) // groups, axis=0)
    return _summed(node, (sums * own).sum(axis=1), 1)


def _gemm(node: ir.Node, known: Known, facts: Facts) -> Channels | None:
    w = _read(node.inputs[1])
    if w is None or w.ndim != 2 or attribute(node, "transA", 0):
        return None
    w = w if attribute(node, "transB", 0) else w.T
    if attribute(node, "beta", 1.0) != 1:
        return None
    live = _live(node.inputs[0], known, 1, w.shape[1])
    return _summed(node, np.abs(w) @ live, 1)


def _matmul(node: ir.Node, known: Known, facts: Facts) -> Channels | None:
    w, x = _read(node.inputs[1]), node.inputs[0]
    rank = len(facts.shapes.get(x.name or "", ())) if x is not None else 0
    if w is None or w.ndim != 2 or rank < 2:
        return None
    return _summed(node, _live(x, known, rank - 1, len(w)) @ np.abs(w), rank - 1)


def _live(value: ir.Value | None, known: Known, axis: int, size: int) -> FloatArray:
    """(size,) 0.0 for channels that are zero, else 1.0."""
    x = _of(value, known)
    if x is None or x.axis != axis or len(x.values) != size:
        return np.ones(size)
    return np.asarray((x.values != 0).astype(np.float64))


def _summed(node: ir.Node, weights: FloatArray, axis: int) -> Channels | None:
    """Outputs of a contraction: the bias where all that is read is zero."""
    bias = np.zeros(len(weights))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        given = _read(node.inputs[2])
        if given is None or given.size not in (1, len(weights)):
            return None
        bias = np.broadcast_to(given.reshape(-1), bias.shape)
    return Channels(axis, np.where(weights == 0, bias, UNKNOWN))


def _batch_norm(node: ir.Node, known: Known, facts: Facts) -> Channels | None:
    parameters = [_read(value) for value in node.inputs[1:5]]
    if any(p is None for p in parameters) or attribute(node, "training_mode", 0):
        return None
    scale, shift, mean, variance = (np.asarray(p) for p in parameters)
    x = _of(node.inputs[0], known)
    values = np.full(len(scale), UNKNOWN) if x is None or x.axis != 1 else x.values
    with np.errstate(all="ignore"):
        slope = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        out = np.where(slope == 0, shift, (values - mean) * slope + shift)
    return Channels(1, np.where(np.isfinite(slope), out, UNKNOWN))


def _combined(node: ir.Node, known: Known, facts: Facts) -> Channels | None:
    """Add, Sub, Mul and Div with numpy's broadcasting, along one axis."""
    out = facts.shapes.get(node.outputs[0].name or "", ())
    axes = {
        len(out) - r + x.axis
        for v in node.inputs
        if (r := _rank(v, facts)) is not None
        if (x := _of(v, known)) is not None
    }
    if len(axes) != 1:
        return None
    (axis,) = axes
    a, b = (_along(value, known, facts, axis, out) for value in node.inputs[:2])
    with np.errstate(all="ignore"):
        if node.op_type == "Mul":
            return Channels(axis, np.where((a == 0) | (b == 0), 0.0, a * b))
        if node.op_type == "Div":
            # What divides may be zero too where it is not known.
            return Channels(axis, np.where(b != 0, a / b, UNKNOWN))
        return Channels(axis, a + b if node.op_type == "Add" else a - b)


def _rank(value: ir.Value | None, facts: Facts) -> int | None:
    shape = None if value is None else facts.shapes.get(value.name or "")
    return None if shape is None else len(shape)


def _along(
    value: ir.Value | None, known: Known, facts: Facts, axis: int, out: tuple[int, ...]
) -> FloatArray:
    """(out[axis],) the operand per channel of the result, NaN where it varies otherwise."""
    unknown = np.full(out[axis], UNKNOWN)
    rank, x = _rank(value, facts), _of(value, known)
    if rank is None:
        return unknown
    if x is not None:
        fits = len(out) - rank + x.axis == axis and len(x.values) == out[axis]
        return x.values if fits else unknown
    array = _read(value)
    if array is None:
        return unknown
    own = array.reshape([1] * (len(out) - rank) + list(array.shape))
    rows = np.moveaxis(own, axis, 0).reshape(own.shape[axis], -1)
    constant = (rows == rows[:, :1]).all(axis=1)
    return np.broadcast_to(np.where(constant, rows[:, 0], UNKNOWN), unknown.shape)


def _concat(node: ir.Node, known: Known, facts: Facts) -> Channels | None:
    parts = [_of(value, known) for value in node.inputs]
    shapes = [facts.shapes.get(v.name or "", ()) if v is not None else () for v in node.inputs]
    if not shapes or not all(shapes):
        return None
    axis = attribute(node, "axis", 1) % len(shapes[0])
    return Channels(
        axis,
        np.concatenate(
            [
                np.full(shape[axis], UNKNOWN) if x is None or x.axis != axis else x.values
                for x, shape in zip(parts, shapes, strict=True)
            ]
        ),
    )


def _reduced(node: ir.Node, known: Known, facts: Facts) -> Channels | None:
    x = _of(node.inputs[0], known)
    rank = _rank(node.inputs[0], facts)
    if x is None or rank is None:
        return None
    read = [facts.constants.get(v.name or "") if v is not None else None for v in node.inputs]
    axes = [a % rank for a in axes_of(node, read)]
    if not axes or min(axes) <= x.axis:
        return None
    return Channels(x.axis, np.where(x.values == 0, 0.0, UNKNOWN))


def _flat(node: ir.Node, known: Known, facts: Facts) -> Channels | None:
    """Flatten, or a Reshape that merges all axes behind the channels with them."""
    x, rank = _of(node.inputs[0], known), _rank(node.inputs[0], facts)
    out = facts.shapes.get(node.outputs[0].name or "", ())
    shape = facts.shapes.get((node.inputs[0].name or "") if node.inputs[0] is not None else "", ())
    if x is None or rank is None or x.axis != 1 or len(out) != 2 or out[0] != shape[0]:
        return None
    return Channels(1, np.repeat(x.values, out[1] // max(1, len(x.values))))


TRANSFERS: Mapping[str, Transfer] = {
    "Add": _combined,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Div": _combined,
    "Flatten": _flat,
    "Gemm": _gemm,
    "Identity": _same,
    "MatMul": _matmul,
    "Mul": _combined,
    "Reshape": _flat,
    "Sub": _combined,
    **dict.fromkeys(sorted(REDUCTIONS), _reduced),
}

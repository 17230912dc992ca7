"""Evaluation of shape arithmetic: the operators that exporters compute shapes and indices with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.ops import op_key

Array = NDArray[Any]
Evaluator = Callable[[ir.Node, Sequence[Array | None], Sequence[tuple[int, ...] | None]], Any]


def evaluate(
    node: ir.Node,
    inputs: Sequence[Array | None],
    in_shapes: Sequence[tuple[int, ...] | None],
) -> tuple[Array, ...] | None:
    """Contents of the outputs of `node`, or None where they can't be known.

    inputs: contents per input, None where absent or unknown. in_shapes: shapes, None where
    unknown; enough for Shape and Size, whose input contents do not matter.
    Source: the ONNX operator specifications; every row is one numpy call.
    """
    row = EVALUATORS.get(op_key(node))
    if row is None:
        return None
    if node.op_type not in ("Shape", "Size") and any(
        value is not None and array is None
        for value, array in zip(node.inputs, inputs, strict=True)
    ):
        return None
    try:
        with np.errstate(all="ignore"):
            results = row(node, inputs, in_shapes)
    except (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError):
        # Contradictory shape arithmetic: the node stays in the graph, its result is not known.
        return None
    if results is None:
        return None
    if not isinstance(results, tuple):
        results = (results,)
    return tuple(np.asarray(result) for result in results)


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """Plain Python value of an attribute: int, float, str, tuple, ndarray; else `default`."""
    attr = node.attributes.get(name)
    if attr is None or attr.is_ref():
        return default
    if attr.type == ir.AttributeType.TENSOR:
        return attr.value.numpy()
    if attr.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
        return tuple(attr.value)
    return attr.value


def axes_of(node: ir.Node, inputs: Sequence[Array | None], position: int = 1) -> tuple[int, ...]:
    """The `axes` of an op that has them as attribute in old opsets and as input in new ones."""
    axes = attribute(node, "axes")
    if axes is None and len(inputs) > position:
        given = inputs[position]
        axes = None if given is None else tuple(int(a) for a in given.reshape(-1))
    return tuple(axes) if axes is not None else ()


def slices_of(node: ir.Node, inputs: Sequence[Array | None], rank: int) -> dict[int, slice] | None:
    """axis -> Python slice of an ONNX Slice node; None where an amount is not known."""
    starts, ends = attribute(node, "starts"), attribute(node, "ends")
    axes, steps = attribute(node, "axes"), None
    if starts is None:
        given = [*inputs, None, None, None, None][1:5]
        present = [i < len(node.inputs) and node.inputs[i] is not None for i in range(1, 5)]
        if any(p and g is None for p, g in zip(present, given, strict=True)):
            return None
        starts, ends, axes, steps = (None if g is None else g.reshape(-1).tolist() for g in given)
    if starts is None or ends is None:
        return None
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    cut = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # ONNX writes "to before the first element" as a very small end; Python needs None.
        stop = None if step < 0 and end < -(2**30) else int(end)
        cut[int(axis) % rank] = slice(int(start), stop, int(step))
    return cut


def _cast(node: ir.Node, ins: Sequence[Any], _: Any) -> Array:
    return np.asarray(ins[0].astype(ir.DataType(attribute(node, "to")).numpy()))


def _div(_: ir.Node, ins: Sequence[Any], __: Any) -> Array:
    a, b = ins
    if a.dtype.kind in "iu":  # ONNX integer division truncates towards zero
        quotient = np.floor_divide(np.abs(a), np.abs(b)) * np.sign(a) * np.sign(b)
        return np.asarray(quotient).astype(a.dtype)
    return np.asarray(a / b)


def _slice(node: ir.Node, ins: Sequence[Any], _: Any) -> Array | None:
    cut = slices_of(node, ins, ins[0].ndim)
    if cut is None:
        return None
    return np.asarray(ins[0][tuple(cut.get(k, slice(None)) for k in range(ins[0].ndim))])


def _shape(node: ir.Node, _: Any, shapes: Sequence[tuple[int, ...] | None]) -> Array | None:
    if shapes[0] is None:
        return None
    start, end = attribute(node, "start", 0), attribute(node, "end", None)
    return np.array(shapes[0][start:end], np.int64)


def _size(_: ir.Node, __: Any, shapes: Sequence[tuple[int, ...] | None]) -> Array | None:
    return None if shapes[0] is None else np.array(np.prod(shapes[0], dtype=np.int64))


def _unsqueeze(node: ir.Node, ins: Sequence[Any], _: Any) -> Array:
    axes = axes_of(node, ins)
    rank = ins[0].ndim + len(axes)
    return np.expand_dims(ins[0], tuple(a % rank for a in axes))


def _squeeze(node: ir.Node, ins: Sequence[Any], _: Any) -> Array:
    return np.asarray(np.squeeze(ins[0], axes_of(node, ins) or None))


def reshaped(shape: Sequence[int], target: Sequence[int], allow_zero: bool) -> tuple[int, ...]:
    """Resolve the 0 and -1 of a Reshape target."""
    out = [
        shape[k] if t == 0 and not allow_zero and k < len(shape) else int(t)
        for k, t in enumerate(target)
    ]
    if -1 in out:
        known = int(np.prod([t for t in out if t != -1], dtype=np.int64))
        out[out.index(-1)] = int(np.prod(shape, dtype=np.int64)) // max(known, 1)
    return tuple(out)


def _reshape(node: ir.Node, ins: Sequence[Any], _: Any) -> Array:
    allow_zero = bool(attribute(node, "allowzero", 0))
    return np.asarray(ins[0].reshape(reshaped(ins[0].shape, ins[1].tolist(), allow_zero)))


def _constant_of_shape(node: ir.Node, ins: Sequence[Any], _: Any) -> Array | None:
    value = attribute(node, "value", np.zeros(1, np.float32))
    if np.prod(ins[0], dtype=np.float64) > 65536:
        return None
    return np.full(ins[0].tolist(), value.reshape(-1)[0], value.dtype)


def _expand(_: ir.Node, ins: Sequence[Any], __: Any) -> Array | None:
    shape = np.broadcast_shapes(ins[0].shape, tuple(ins[1].tolist()))
    return None if np.prod(shape, dtype=np.float64) > 65536 else np.broadcast_to(ins[0], shape)


def _range(_: ir.Node, ins: Sequence[Any], __: Any) -> Array | None:
    start, stop, step = (i.reshape(-1)[0] for i in ins)
    if abs((stop - start) / step) > 65536:
        return None
    return np.arange(start, stop, step, dtype=ins[0].dtype)


def _split(node: ir.Node, ins: Sequence[Any], _: Any) -> tuple[Array, ...]:
    axis = attribute(node, "axis", 0)
    sizes = split_sizes(node, ins, ins[0].shape[axis])
    return tuple(np.split(ins[0], np.cumsum(sizes)[:-1], axis))


def split_sizes(node: ir.Node, ins: Sequence[Array | None], total: int) -> tuple[int, ...]:
    """Sizes of the pieces of a Split: attribute, input, or equal pieces with a smaller last."""
    sizes = attribute(node, "split")
    if sizes is None and len(ins) > 1 and ins[1] is not None:
        sizes = ins[1].tolist()
    if sizes is None:
        count = attribute(node, "num_outputs", len(node.outputs))
        size = -(-total // count)
        sizes = [max(0, min(size, total - k * size)) for k in range(count)]
    return tuple(int(s) for s in sizes)


def _reduce(function: Callable[..., Any]) -> Evaluator:
    def run(node: ir.Node, ins: Sequence[Any], _: Any) -> Array:
        axes = axes_of(node, ins)
        if not axes and attribute(node, "noop_with_empty_axes", 0):
            return np.asarray(ins[0])
        keep = bool(attribute(node, "keepdims", 1))
        return np.asarray(function(ins[0], axis=axes or None, keepdims=keep)).astype(ins[0].dtype)

    return run


def _numpy(function: Callable[..., Any]) -> Evaluator:
    return lambda node, ins, _: function(*ins)


def _same(function: Callable[..., Any]) -> Evaluator:
    """Element-wise in the type of the first input (numpy would widen)."""

    def run(_: ir.Node, ins: Sequence[Any], __: Any) -> Array:
        return np.asarray(function(*ins)).astype(ins[0].dtype)

    return run


def _mod(node: ir.Node, ins: Sequence[Any], _: Any) -> Array:
    return np.asarray(np.fmod(*ins) if attribute(node, "fmod", 0) else np.mod(*ins))


def _transpose(node: ir.Node, ins: Sequence[Any], _: Any) -> Array:
    return np.transpose(ins[0], attribute(node, "perm"))


def _concat(node: ir.Node, ins: Sequence[Any], _: Any) -> Array:
    return np.concatenate(list(ins), attribute(node, "axis", 1))


def _gather(node: ir.Node, ins: Sequence[Any], _: Any) -> Array:
    return np.asarray(np.take(ins[0], ins[1], attribute(node, "axis", 0)))


def _tile(_: ir.Node, ins: Sequence[Any], __: Any) -> Array | None:
    if np.prod(ins[1], dtype=np.float64) * ins[0].size > 65536:
        return None
    return np.tile(ins[0], ins[1].tolist())


def _fold(function: Callable[[Any, Any], Any]) -> Evaluator:
    """An op with any number of inputs: Sum, Max, Min."""

    def run(_: ir.Node, ins: Sequence[Any], __: Any) -> Array:
        total = ins[0]
        for other in ins[1:]:
            total = function(total, other)
        return np.asarray(total)

    return run


def _clip(_: ir.Node, ins: Sequence[Any], __: Any) -> Array:
    low, high = [*ins, None, None][1:3]
    return np.asarray(ins[0] if low is high is None else np.clip(ins[0], low, high))


def _cast_like(_: ir.Node, ins: Sequence[Any], __: Any) -> Array:
    return np.asarray(ins[0].astype(ins[1].dtype))


def _compress(node: ir.Node, ins: Sequence[Any], _: Any) -> Array:
    return np.compress(ins[1], ins[0], attribute(node, "axis"))


def _cumulative(node: ir.Node, ins: Sequence[Any], _: Any) -> Array | None:
    if attribute(node, "exclusive", 0) or attribute(node, "reverse", 0):
        return None
    return np.asarray(np.cumsum(ins[0], int(ins[1].reshape(-1)[0]), dtype=ins[0].dtype))


def _gather_nd(node: ir.Node, ins: Sequence[Any], _: Any) -> Array | None:
    if attribute(node, "batch_dims", 0):
        return None
    return np.asarray(ins[0][tuple(np.moveaxis(ins[1], -1, 0))])


def _gather_elements(node: ir.Node, ins: Sequence[Any], _: Any) -> Array:
    return np.take_along_axis(ins[0], ins[1], attribute(node, "axis", 0))


def _non_zero(_: ir.Node, ins: Sequence[Any], __: Any) -> Array:
    return np.array(np.nonzero(np.atleast_1d(ins[0])), np.int64)


def _scatter_nd(node: ir.Node, ins: Sequence[Any], _: Any) -> Array | None:
    if attribute(node, "reduction", "none") != "none":
        return None
    out = np.array(ins[0])
    out[tuple(np.moveaxis(ins[1], -1, 0))] = ins[2]
    return out


def _scatter_elements(node: ir.Node, ins: Sequence[Any], _: Any) -> Array | None:
    if attribute(node, "reduction", "none") != "none":
        return None
    out = np.array(ins[0])
    np.put_along_axis(out, ins[1], ins[2], attribute(node, "axis", 0))
    return out


def _trilu(node: ir.Node, ins: Sequence[Any], _: Any) -> Array:
    k = int(ins[1].reshape(-1)[0]) if len(ins) > 1 and ins[1] is not None else 0
    return np.triu(ins[0], k) if attribute(node, "upper", 1) else np.tril(ins[0], k)


EVALUATORS: Mapping[str, Evaluator] = {
    "Abs": _numpy(np.abs),
    "Add": _numpy(np.add),
    "And": _numpy(np.logical_and),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": _numpy(np.ceil),
    "Clip": _clip,
    "Compress": _compress,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "CumSum": _cumulative,
    "Div": _div,
    "Equal": _numpy(np.equal),
    "Expand": _expand,
    "Floor": _numpy(np.floor),
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Greater": _numpy(np.greater),
    "GreaterOrEqual": _numpy(np.greater_equal),
    "Identity": _numpy(lambda x: x),
    "Less": _numpy(np.less),
    "LessOrEqual": _numpy(np.less_equal),
    "Max": _fold(np.maximum),
    "Min": _fold(np.minimum),
    "Mod": _mod,
    "Mul": _numpy(np.multiply),
    "Neg": _numpy(np.negative),
    "NonZero": _non_zero,
    "Not": _numpy(np.logical_not),
    "Or": _numpy(np.logical_or),
    "Pow": _same(np.power),
    "Range": _range,
    "Reciprocal": _same(np.reciprocal),
    "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(np.mean),
    "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "Reshape": _reshape,
    "Round": _numpy(np.round),
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Shape": _shape,
    "Sign": _numpy(np.sign),
    "Size": _size,
    "Slice": _slice,
    "Split": _split,
    "Sqrt": _same(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _numpy(np.subtract),
    "Sum": _fold(np.add),
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
    "Where": _numpy(np.where),
    "Xor": _numpy(np.logical_xor),
}

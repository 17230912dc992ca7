"""What the first weights behind a graph input tell of a shape that the model does not declare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from prunec.compiler.constants import attribute

KEEPING = frozenset(
    {
        "Add",
        "BatchNormalization",
        "Cast",
        "Clip",
        "DequantizeLinear",
        "Div",
        "Identity",
        "Imputer",
        "LeakyRelu",
        "Mul",
        "Normalizer",
        "Pad",
        "QuantizeLinear",
        "Relu",
        "Scaler",
        "Sub",
    }
)
STEPS = 32


@dataclass(frozen=True, slots=True)
class Told:
    """rank: of the input. sizes: axis -> size, where a stored weight says it."""

    rank: int
    sizes: Mapping[int, int]


def told(value: ir.Value) -> Told | None:
    """What the weight of the first convolution or product behind `value` says of its shape.

    Operators that keep the shape, and transpositions, may lie between; None where others do.
    """
    order: tuple[int, ...] = ()  # axis here -> axis of the input; () while all stand as they were
    pending, steps = [(value, order)], 0
    while pending and steps < STEPS:
        value, order = pending.pop(0)
        for node, position in value.uses():
            steps += 1
            if position or node.domain not in ("", "ai.onnx.ml"):
                continue
            if node.op_type in KEEPING:
                pending.append((node.outputs[0], order))
            elif node.op_type == "Transpose":
                perm = attribute(node, "perm", ())
                pending.append((node.outputs[0], tuple(order[p] if order else p for p in perm)))
            else:
                found = _of_weight(node, len(order) or _rank(value))
                if found is not None:
                    rank, axis, size = found
                    if not order or len(order) == rank:
                        return Told(rank, {order[axis] if order else axis: size})
    return None


def _rank(value: ir.Value) -> int:
    return 0 if value.shape is None else value.shape.rank()


def _of_weight(node: ir.Node, known: int) -> tuple[int, int, int] | None:
    """Rank of the first operand, its axis that is summed over, and the size of that."""
    shape = _stored_shape(node.inputs[1] if len(node.inputs) > 1 else None)
    if shape is None:
        return None
    match node.op_type:
        case "Conv" if len(shape) > 2:
            return len(shape), 1, shape[1] * int(attribute(node, "group", 1))
        case "ConvTranspose" if len(shape) > 2:
            return len(shape), 1, shape[0]
        case "Gemm" if len(shape) == 2 and not attribute(node, "transA", 0):
            return 2, 1, shape[1 if attribute(node, "transB", 0) else 0]
        case "MatMul" if len(shape) == 2:
            return known or 2, (known or 2) - 1, shape[0]
    return None


def _stored_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Shape of a stored tensor, also behind operators that keep it."""
    while value is not None and value.const_value is None:
        node = value.producer()
        if node is None:
            return None
        if node.op_type == "Constant":
            held = node.attributes.get("value")
            return None if held is None or held.is_ref() else tuple(held.value.shape.numpy())
        value = node.inputs[0] if node.op_type in ("Cast", "DequantizeLinear", "Identity") else None
    tensor = None if value is None else value.const_value
    return None if tensor is None else tuple(tensor.shape.numpy())

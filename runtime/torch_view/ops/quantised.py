"""Quantisation; gradients go straight through the rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from prunec.compiler.constants import attribute
from prunec.compiler.ops import op_key
from prunec.runtime.torch_view.ops.contraction import conv
from prunec.runtime.torch_view.row import Call, Row, aligned
from prunec.runtime.torch_view.tensors import torch_type

MOVING = frozenset(
    [
        "Concat",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ]
)
AMOUNTS = frozenset([1, 2])  # scale and zero point
ENDS = frozenset(["ConvInteger", "DequantizeLinear", "MatMulInteger"])


def facts(node: ir.Node) -> Mapping[str, Any]:
    """What a node that quantises must know: the integers' type, and whether floats may hold them.

    Floats hold them where all readers undo the quantisation: gradients have a way then.
    """
    told = attribute(node, "output_dtype", 0)
    point = node.inputs[2] if len(node.inputs) > 2 else None
    kind = ir.DataType(told) if told else element_type(point) or ir.DataType.UINT8
    return {"integers": kind, "straight": _undone(node.outputs[0])}


def element_type(value: ir.Value | None) -> ir.DataType | None:
    """The element type of a value, of a stored one in any case."""
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.dtype
    home = value.producer()
    if home is not None and op_key(home) == "Constant" and "value" in home.attributes:
        return home.attributes["value"].as_tensor().dtype
    return value.dtype


def _undone(value: ir.Value) -> bool:
    pending, seen = [value], {value}
    while pending:
        value = pending.pop()
        if value.is_graph_output():
            return False
        for node, _ in value.uses():
            if op_key(node) in MOVING:
                new = [v for v in node.outputs if v not in seen]
                pending += new
                seen.update(new)
            elif op_key(node) not in ENDS:
                return False
    return True


def _range(kind: ir.DataType) -> tuple[int, int]:
    bits = kind.bitwidth
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind.is_signed() else (0, 2**bits - 1)


def _rounded(x: Tensor) -> Tensor:
    """Rounded to even; the gradient is that of x."""
    return x + (torch.round(x) - x).detach()


def _along(call: Call, x: Tensor, amounts: Tensor) -> Tensor:
    """Scales or zero points, per tensor, per index of an axis or per block of it, beside x."""
    axis, block = call.get("axis", 1), call.get("block_size", 0)
    if amounts.numel() == 1:
        return amounts.reshape(())
    if block:
        wide = amounts.repeat_interleave(block, axis)
        return wide.narrow(axis, 0, x.shape[axis])
    return aligned(amounts, x.ndim, axis) if amounts.ndim == 1 else amounts


def quantize(call: Call, x: Tensor, scale: Tensor, point: Tensor | None = None) -> Tensor:
    """ONNX QuantizeLinear to integers."""
    kind: ir.DataType = call.get("integers")
    low, high = _range(kind)
    zero = 0.0 if point is None else _along(call, x, point).to(x.dtype)
    y = _rounded(x / _along(call, x, scale)) + zero
    y = y.clamp(low, high)
    return y if call.get("straight") else y.to(torch_type(kind))


def dequantize(call: Call, x: Tensor, scale: Tensor, point: Tensor | None = None) -> Tensor:
    """ONNX DequantizeLinear."""
    amount = _along(call, x, scale)
    zero = 0.0 if point is None else _along(call, x, point).to(amount.dtype)
    return (x.to(amount.dtype) - zero) * amount


def dynamic_quantize(call: Call, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """ONNX DynamicQuantizeLinear, to uint8 by the range of x."""
    low, high = x.detach().min().clamp(max=0), x.detach().max().clamp(min=0)
    scale = (high - low) / 255
    point = torch.round((-low / scale).clamp(0, 255))
    y = (_rounded(x / scale) + point).clamp(0, 255)
    kept = call.get("straight")
    return y if kept else y.to(torch.uint8), scale, point.to(torch.uint8)


def _centred(x: Tensor, point: Tensor | None, axis: int) -> Tensor:
    if point is None:
        return x.float()
    zero = point.float()
    return x.float() - (aligned(zero, x.ndim, axis) if zero.ndim == 1 else zero)


def matmul_integer(
    _: Call, a: Tensor, b: Tensor, pa: Tensor | None = None, pb: Tensor | None = None
) -> Tensor:
    """ONNX MatMulInteger, in floats: exact below 2^24, and gradients have a way."""
    return torch.matmul(_centred(a, pa, -2), _centred(b, pb, -1))


def conv_integer(
    call: Call, x: Tensor, w: Tensor, px: Tensor | None = None, pw: Tensor | None = None
) -> Tensor:
    """ONNX ConvInteger, in floats: exact below 2^24, and gradients have a way."""
    return conv(call, _centred(x, px, 1), _centred(w, pw, 0))


ROWS: Mapping[str, Row] = {
    "ConvInteger": Row(conv_integer),
    "DequantizeLinear": Row(dequantize, amounts=AMOUNTS),
    "DynamicQuantizeLinear": Row(dynamic_quantize, facts=facts),
    "MatMulInteger": Row(matmul_integer),
    "QuantizeLinear": Row(quantize, amounts=AMOUNTS, facts=facts),
}

"""Types with other elements: what `as_float32` hides from a schema, `as_declared` puts back."""

from __future__ import annotations

import onnx
import onnx_ir as ir


def as_float32(kind: onnx.TypeProto) -> onnx.TypeProto:
    """The same with float32 elements, if its elements are floats."""
    is_float = ir.DataType(kind.tensor_type.elem_type).is_floating_point()
    return _with_element(kind, int(ir.DataType.FLOAT)) if is_float else kind


def as_declared(kind: onnx.TypeProto, first: onnx.TypeProto) -> onnx.TypeProto:
    """The same with the elements of `first`, if its own are float32."""
    if kind.tensor_type.elem_type != int(ir.DataType.FLOAT):
        return kind
    return _with_element(kind, first.tensor_type.elem_type)


def _with_element(kind: onnx.TypeProto, element: int) -> onnx.TypeProto:
    out = onnx.TypeProto()
    out.CopyFrom(kind)
    out.tensor_type.elem_type = element
    return out

"""Gates over element types that onnxruntime's Where does not take."""

from __future__ import annotations

import onnx_ir as ir

# Casts to these types and back lose nothing.
CARRIERS = {
    **dict.fromkeys(
        (
            ir.DataType.INT4,
            ir.DataType.UINT4,
            ir.DataType.INT8,
            ir.DataType.INT16,
            ir.DataType.UINT16,
        ),
        ir.DataType.INT32,
    ),
    **dict.fromkeys(
        (
            ir.DataType.FLOAT8E4M3FN,
            ir.DataType.FLOAT8E4M3FNUZ,
            ir.DataType.FLOAT8E5M2,
            ir.DataType.FLOAT8E5M2FNUZ,
        ),
        ir.DataType.FLOAT,
    ),
}


def carried(gate_node: ir.Node) -> list[ir.Node]:
    """The gate, between Casts where onnxruntime has no Where for the element type."""
    dtype = gate_node.outputs[0].dtype
    carrier = CARRIERS.get(dtype) if dtype is not None else None
    if dtype is None or carrier is None:
        return [gate_node]
    before = [_cast(gate_node.inputs[k], carrier, f"{gate_node.name}.{k}") for k in (1, 2)]
    for k, cast in zip((1, 2), before, strict=True):
        gate_node.replace_input_with(k, cast.outputs[0])
    gate_node.outputs[0].dtype = carrier
    return [*before, gate_node, _cast(gate_node.outputs[0], dtype, f"{gate_node.name}.back")]


def _cast(value: ir.Value | None, dtype: ir.DataType, name: str) -> ir.Node:
    node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(dtype))], num_outputs=1, name=name)
    node.outputs[0].name, node.outputs[0].dtype = name, dtype
    return node

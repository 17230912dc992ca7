"""Bytes of a quantised model, counted on its own graph."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from prunec.compiler.walk import initializers

SCALED = frozenset({"DequantizeLinear", "QuantizeLinear"})


def file_bytes(model: ir.Model, counted: Collection[str]) -> int:
    """Items of all parameters, and of all scales, zero points and bounds of integers.

    counted: names of the parameters, those of the model's own hypergraph (`WeightInfo.counted`).
    Every tensor takes whole bytes: the last of an odd number of 4-bit elements is alone in its own.
    """
    total = 0
    for name, value in initializers(model.graph).items():
        if name not in counted and not _describes_integers(value):
            continue
        tensor = value.const_value
        assert tensor is not None and value.dtype is not None, name
        total += -(-tensor.size * round(8 * value.dtype.itemsize) // 8)
    return total


def _describes_integers(value: ir.Value) -> bool:
    """Whether it is a scale, a zero point, or a bound of integers."""
    for node, position in value.uses():
        if node.op_type in SCALED and position:
            return True
        source = node.inputs[0]
        maker = None if source is None else source.producer()
        if node.op_type == "Clip" and maker is not None and maker.op_type == "QuantizeLinear":
            return True
    return False

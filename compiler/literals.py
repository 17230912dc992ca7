"""Contents that are written in a model: stored tensors and Constant nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]


def constant(node: ir.Node) -> Array | None:
    """What a Constant node holds, whichever attribute holds it; None for strings and sparse."""
    for name, held in node.attributes.items():
        if held.is_ref():
            return None
        if name == "value" and held.value.dtype != ir.DataType.STRING:
            return np.asarray(held.value.numpy())
        if name in ("value_int", "value_ints"):
            return np.array(held.value, np.int64)
        if name in ("value_float", "value_floats"):
            return np.array(held.value, np.float32)
    return None


def literal(value: ir.Value | None) -> Array | None:
    """Contents that nobody can override, through Identity: a stored tensor's or a Constant's."""
    value = origin(value)
    if value is None or value.is_graph_input():
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    maker = value.producer()
    is_constant = maker is not None and maker.op_type == "Constant" and not maker.domain
    return constant(maker) if maker is not None and is_constant else None


def number(value: ir.Value | None) -> int | None:
    """The only element of a literal of integers or booleans."""
    contents = literal(value)
    if contents is None or contents.size != 1 or contents.dtype.kind not in "iub":
        return None
    return int(contents.reshape(-1)[0])


def origin(value: ir.Value | None) -> ir.Value | None:
    """What Identity nodes hand through."""
    while value is not None:
        maker = value.producer()
        if maker is None or maker.domain or maker.op_type != "Identity":
            return value
        value = maker.inputs[0]
    return None

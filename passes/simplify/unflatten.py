"""Give the scales of block-wise packed weights one axis for rows and one for blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from prunec.compiler.constants import attribute

TABLES = (2, 3)  # inputs of MatMulNBits: scales, zero points


def unflatten(model: ir.Model) -> ir.Model:
    """A model in which MatMulNBits finds its scales and zero points as (N, blocks).

    Older quantisers store them flat; the operator takes both. From a flat table either rows or
    blocks could be taken, not both. Returns `model` if nothing applies.
    """
    if not any(_flat(model.graph)):
        return model
    copy = model.clone()
    for value, rows in list(_flat(copy.graph)):
        tensor = value.const_value
        assert tensor is not None
        shape = (rows, tensor.size // rows)
        value.const_value = _reshaped(tensor, shape)
        value.shape = ir.Shape(shape)
    return copy


def _reshaped(tensor: ir.TensorProtocol, shape: tuple[int, int]) -> ir.LazyTensor:
    """A tensor that is read, and reshaped, whenever it is needed."""
    return ir.LazyTensor(
        lambda: ir.Tensor(np.reshape(tensor.numpy(), shape), dtype=tensor.dtype, name=tensor.name),
        dtype=tensor.dtype,
        shape=ir.Shape(shape),
        name=tensor.name,
    )


def _flat(graph: ir.Graph) -> Iterator[tuple[ir.Value, int]]:
    """Flat tables that only MatMulNBits nodes with one number of rows read, and that number."""
    for value in graph.initializers.values():
        tensor = value.const_value
        uses = value.uses()
        rows = {_rows(node, position) for node, position in uses}
        if tensor is None or value.is_graph_output() or value.is_graph_input() or len(rows) != 1:
            continue
        (count,) = rows
        if count and len(tensor.shape) == 1 and tensor.size > count and tensor.size % count == 0:
            yield value, count


def _rows(node: ir.Node, position: int) -> int:
    is_table = node.op_type == "MatMulNBits" and position in TABLES
    return int(attribute(node, "N", 0)) if is_table and node.domain == "com.microsoft" else 0

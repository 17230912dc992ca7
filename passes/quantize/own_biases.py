"""Biases that several layers share, stored once for each: as integers they have steps of their own.

Exporters store equal tensors once, and biases that are all 0 are equal.
"""

from __future__ import annotations

import onnx_ir as ir

from prunec.compiler.ops import op_key
from prunec.passes.quantize.norms import new_initializer, unused
from prunec.passes.quantize.ops import ROWS


def own_biases(model: ir.Model) -> None:
    """Give every layer a bias of its own, in place, in the main graph."""
    graph = model.graph
    for node in graph:
        row = ROWS.get(op_key(node))
        if row is None or row.bias is None or len(node.inputs) <= row.bias:
            continue
        value = node.inputs[row.bias]
        stored = value is not None and value.is_initializer() and not value.is_graph_input()
        if value is None or not stored or len(list(value.uses())) == 1:
            continue
        assert value.const_value is not None
        name = unused(graph, f"{value.name}.{node.name}")
        own = new_initializer(graph, name, value.const_value.numpy())
        node.replace_input_with(row.bias, own)

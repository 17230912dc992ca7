"""Weights that are read through a copy: exporters copy what two layers share."""

from __future__ import annotations

import onnx_ir as ir

from prunec.compiler.ops import op_key


def without_copies(model: ir.Model) -> tuple[str, ...]:
    """Let the readers of a stored tensor's Identity read the tensor, in place; names of the nodes.

    Computes the same. The main graph only; a copy that leaves the model stays.
    """
    gone = []
    for node in list(model.graph):
        if op_key(node) != "Identity":
            continue
        value, copy = node.inputs[0], node.outputs[0]
        stored = value is not None and value.is_initializer() and not value.is_graph_input()
        if value is None or not stored or copy.is_graph_output():
            continue
        copy.replace_all_uses_with(value)
        model.graph.remove(node, safe=True)
        gone.append(str(node.name))
    return tuple(gone)

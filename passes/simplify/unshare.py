"""Give every named vector its own storage again."""

from __future__ import annotations

import onnx_ir as ir


def unshare(model: ir.Model) -> ir.Model:
    """A model in which ``Identity(initializer vector)`` is an initializer of its own.

    torch's exporter stores equal parameters once and hands the others out through Identity: in
    an untrained network all BatchNormalization scales are one tensor, which would tie every layer
    to every other. Vectors get their name and storage back; matrices that are shared stay shared,
    because that is usually meant (tied embeddings). Returns `model` itself if nothing applies.
    """
    names = [n.name for n in model.graph if _is_copy(n)]
    if not names:
        return model
    copy = model.clone()
    for node in [n for n in copy.graph if _is_copy(n)]:
        source, old = node.inputs[0], node.outputs[0]
        assert source is not None and source.const_value is not None
        new = ir.Value(name=old.name, const_value=source.const_value)
        new.shape, new.type = source.shape, source.type
        old.replace_all_uses_with(new)
        copy.graph.remove(node, safe=True)
        copy.graph.register_initializer(new)
    inputs = {v.name for v in copy.graph.inputs}
    for name, value in list(copy.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and name not in inputs:
            del copy.graph.initializers[name]
    return copy


def _is_copy(node: ir.Node) -> bool:
    if node.op_type != "Identity" or node.domain not in ("", "ai.onnx"):
        return False
    source, out = node.inputs[0], node.outputs[0]
    if source is None or not source.is_initializer() or source.is_graph_input():
        return False
    tensor = source.const_value
    return tensor is not None and len(tensor.shape) == 1 and not out.is_graph_output()

"""Give every named vector its own storage again."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def unshare(model: ir.Model) -> ir.Model:
    """A model in which vectors that an exporter merged are stored apart.

    torch's exporter stores equal tensors once: in an untrained network all BatchNormalization
    scales (ones) and biases (zeros) of one length are one tensor, which would tie every layer to
    every other. Two forms are undone: ``Identity(initializer vector)``, where the parameter's own
    name is the output, and vectors of one repeated number with several readers. What is shared
    on purpose (tied embeddings, Siamese branches) stays shared. Returns `model` if nothing applies.
    """
    if not any(map(_is_copy, model.graph)) and not any(_merged(model.graph)):
        return model
    copy = model.clone()
    for node in [n for n in copy.graph if _is_copy(n)]:
        source, old = node.inputs[0], node.outputs[0]
        assert source is not None and source.const_value is not None
        new = _store(copy.graph, str(old.name), source)
        old.replace_all_uses_with(new)
        copy.graph.remove(node, safe=True)
    for value in list(_merged(copy.graph)):
        readers = {id(node): node for node, _ in value.uses()}
        for number, node in enumerate(list(readers.values())[1:], 1):
            new = _store(copy.graph, f"{value.name}.{number}", value)
            for position, read in enumerate(node.inputs):
                if read is value:
                    node.replace_input_with(position, new)
    inputs = {v.name for v in copy.graph.inputs}
    for name, value in list(copy.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and name not in inputs:
            del copy.graph.initializers[name]
    return copy


def _store(graph: ir.Graph, name: str, source: ir.Value) -> ir.Value:
    new = ir.Value(name=name, const_value=source.const_value)
    new.shape, new.type = source.shape, source.type
    graph.register_initializer(new)
    return new


def _is_copy(node: ir.Node) -> bool:
    if node.op_type != "Identity" or node.domain not in ("", "ai.onnx"):
        return False
    source, out = node.inputs[0], node.outputs[0]
    return source is not None and _is_vector(source) and not out.is_graph_output()


def _merged(graph: ir.Graph) -> Iterator[ir.Value]:
    for value in graph.initializers.values():
        if len({id(node) for node, _ in value.uses()}) > 1 and _is_vector(value):
            assert value.const_value is not None
            array = value.const_value.numpy().reshape(-1)
            if bool((array == array[0]).all()) and not _in_body(graph, value):
                yield value


def _in_body(graph: ir.Graph, value: ir.Value) -> bool:
    return any(node.graph is not graph for node, _ in value.uses())


def _is_vector(value: ir.Value) -> bool:
    """A stored float tensor, not overridable from outside, with one axis longer than 1."""
    tensor = value.const_value
    if tensor is None or not value.is_initializer() or value.is_graph_input():
        return False
    long = [n for n in tensor.shape if n != 1]
    return len(long) == 1 and long[0] != 0 and tensor.dtype.is_floating_point()

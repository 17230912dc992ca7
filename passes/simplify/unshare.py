"""Give every named vector its own storage again."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import onnx_ir as ir

from prunec.compiler.calls import call_of, reader
from prunec.compiler.ops import op_key
from prunec.compiler.walk import initializers, nodes
from prunec.passes.apply import remove_dead
from prunec.passes.simplify.picks import picks, read_part
from prunec.passes.simplify.states import fill_apart, is_zero, leave_out, shared_fills, zero_states

QUANTISED = frozenset(
    {
        ir.DataType.INT4,
        ir.DataType.UINT4,
        ir.DataType.INT8,
        ir.DataType.UINT8,
        ir.DataType.INT16,
        ir.DataType.UINT16,
        ir.DataType.INT32,
    }
)


def unshare(model: ir.Model) -> ir.Model:
    """A model in which vectors that an exporter merged are stored apart.

    torch's exporter stores equal tensors once: in an untrained network all BatchNormalization
    scales (ones) and biases (zeros) of one length are one tensor, which would tie every layer to
    every other. Undone are: ``Identity(initializer vector)``, where the parameter's own name is the
    output; vectors of one repeated number, zeros of any rank and filled tensors that several nodes
    read; the zeros that recurrent nodes start from, which go; and states joined only to pick one.
    What is shared on purpose (tied embeddings, Siamese branches) stays shared. Nodes that nothing
    reads, which would cost and tie, go. Returns `model` if nothing applies.
    """
    graph = model.graph
    states = (zero_states(graph), shared_fills(graph), picks(graph), _unread(graph))
    if not any(map(any, (map(_is_copy, nodes(graph)), _merged(graph), *states))):
        return model
    copy = model.clone()
    for node, position in list(zero_states(copy.graph)):
        leave_out(node, position)
    for node in list(shared_fills(copy.graph)):
        fill_apart(node)
    for node, part, index in list(picks(copy.graph)):
        read_part(node, part, index)
    for node in [n for n in nodes(copy.graph) if _is_copy(n)]:
        source, old = node.inputs[0], node.outputs[0]
        assert source is not None and source.const_value is not None
        new = _store(copy.graph, str(old.name), source)
        old.replace_all_uses_with(new)
        assert isinstance(node.graph, ir.Graph)
        node.graph.remove(node, safe=True)
    for value in list(_merged(copy.graph)):
        for number, uses in enumerate(list(_readers(value).values())[1:], 1):
            new = _store(copy.graph, f"{value.name}.{number}", value)
            for node, position in uses:
                node.replace_input_with(position, new)
    remove_dead(copy.graph)
    return copy


def _unread(graph: ir.Graph) -> Iterator[ir.Node]:
    for node in nodes(graph):
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            yield node


def _readers(value: ir.Value) -> dict[Hashable, list[tuple[ir.Node, int]]]:
    """Uses by who reads; all uses by one input of a function call belong together."""
    found: dict[Hashable, list[tuple[ir.Node, int]]] = {}
    for node, position in value.uses():
        found.setdefault(reader(node, position), []).append((node, position))
    return found


def _store(graph: ir.Graph, name: str, source: ir.Value) -> ir.Value:
    while name != source.name and name in graph.initializers:
        name += ".own"
    new = ir.Value(name=name, const_value=source.const_value)
    new.shape, new.type = source.shape, source.type
    graph.register_initializer(new)
    return new


def _is_copy(node: ir.Node) -> bool:
    if op_key(node) != "Identity" or call_of(node):
        return False
    source, out = node.inputs[0], node.outputs[0]
    return source is not None and _is_vector(source) and not out.is_graph_output()


def _merged(graph: ir.Graph) -> Iterator[ir.Value]:
    for value in initializers(graph).values():
        if len(_readers(value)) > 1 and (_is_repeated(value) or is_zero(value)):
            yield value


def _is_repeated(value: ir.Value) -> bool:
    """A stored vector of one number."""
    if not _is_vector(value):
        return False
    assert value.const_value is not None
    array = value.const_value.numpy().reshape(-1)
    return bool((array == array[0]).all())


def _is_vector(value: ir.Value) -> bool:
    """A stored tensor, not overridable from outside, with one axis longer than 1.

    Of floats, or of the integers that quantised biases and zero points are.
    """
    tensor = value.const_value
    if tensor is None or not value.is_initializer() or value.is_graph_input():
        return False
    long = [n for n in tensor.shape if n != 1]
    is_weight = tensor.dtype.is_floating_point() or tensor.dtype in QUANTISED
    return len(long) == 1 and long[0] != 0 and is_weight

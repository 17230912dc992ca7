"""States of zero that recurrent nodes and unrolled cells start from: they tie nothing."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from prunec.compiler.calls import call_of
from prunec.compiler.ops import op_key
from prunec.compiler.walk import nodes

RECURRENT = ("GRU", "LSTM", "RNN")
INITIAL = (5, 6)  # positions of initial_h and initial_c
# Their output is zero where their first input is.
ZERO_KEEPING = (
    "Cast",
    "Expand",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)


def zero_states(graph: ir.Graph) -> Iterator[tuple[ir.Node, int]]:
    """(node, input position) of initial states of recurrent nodes that are known to be zero.

    Without the input the state is zero all the same (ONNX LSTM, GRU, RNN). With it, the zeros
    count as parameters, and the layers that share them, as exporters write it, would be tied.
    """
    for node in nodes(graph):
        if op_key(node) in RECURRENT:
            for position in INITIAL:
                if position < len(node.inputs) and _is_zero_state(node.inputs[position]):
                    yield node, position


def leave_out(node: ir.Node, position: int, instead: ir.Value | None = None) -> None:
    """Let `node` read something else, or nothing; what nobody reads any more is removed."""
    value = node.inputs[position]
    node.replace_input_with(position, instead)
    orphans = [value]
    while orphans:
        value = orphans.pop()
        made = None if value is None else value.producer()
        if made is None or made.graph is None or any(_is_read(v) for v in made.outputs):
            continue
        orphans.extend(made.inputs)
        made.graph.remove(made, safe=True)


def shared_fills(graph: ir.Graph) -> Iterator[ir.Node]:
    """Nodes that fill a tensor of floats which several nodes read: first states of unrolled cells.

    Only in the main graph and outside of function calls, which stay as they are.
    """
    for node in graph:
        out = node.outputs[0]
        readers = {id(user): user for user, _ in out.uses()}
        alone = all(user.graph is graph and not call_of(user) for user in readers.values())
        if len(readers) > 1 and alone and not out.is_graph_output() and _fills(node):
            yield node


def _fills(node: ir.Node) -> bool:
    if node.domain or call_of(node):
        return False
    if node.op_type == "ConstantOfShape":
        content = node.attributes.get("value")
        if content is None:  # zeros of float32
            return True
        return not content.is_ref() and content.value.dtype.is_floating_point()
    tensor = node.inputs[0].const_value if node.op_type == "Expand" and node.inputs[0] else None
    return tensor is not None and tensor.size == 1 and tensor.dtype.is_floating_point()


def fill_apart(node: ir.Node) -> None:
    """Give every reader of a filled tensor its own."""
    assert node.graph is not None
    out = node.outputs[0]
    readers = {id(user): user for user, _ in out.uses()}
    for number, user in enumerate(list(readers.values())[1:], 1):
        name = f"{out.name}.{user.name}"
        copy = ir.Node(
            node.domain,
            node.op_type,
            node.inputs,
            list(node.attributes.values()),
            num_outputs=1,
            name=f"{node.name}.{number}",
        )
        new = copy.outputs[0]
        new.name, new.shape, new.type = name, out.shape, out.type
        node.graph.insert_after(node, copy)
        for position, read in enumerate(user.inputs):
            if read is out:
                user.replace_input_with(position, new)


def is_zero(value: ir.Value) -> bool:
    """Whether a stored tensor of floats holds nothing but zeros, and nobody can override it."""
    tensor = value.const_value
    fixed = value.is_initializer() and not value.is_graph_input()
    return fixed and tensor is not None and tensor.dtype.is_floating_point() and _is_zero(tensor)


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _is_zero_state(value: ir.Value | None) -> bool:
    """Whether a value is made of a stored or filled tensor of zeros."""
    while value is not None:
        node = value.producer()
        if node is None:
            return is_zero(value)
        if node.domain:
            return False
        if node.op_type == "ConstantOfShape" and "value" not in node.attributes:
            return True
        if node.op_type in ("Constant", "ConstantOfShape"):
            filled = node.attributes.get("value")
            return filled is not None and not filled.is_ref() and _is_zero(filled.value)
        value = node.inputs[0] if node.op_type in ZERO_KEEPING else None
    return False


def _is_zero(tensor: ir.TensorProtocol | None) -> bool:
    if tensor is None:
        return False
    array = tensor.numpy().reshape(-1)
    return not array[:64].any() and not array.any()  # weights show at once that they are not

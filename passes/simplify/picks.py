"""One element out of a Concat, read from where it comes from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from prunec.compiler.calls import call_of
from prunec.compiler.constants import attribute
from prunec.compiler.literals import number
from prunec.compiler.ops import op_key
from prunec.passes.insert import names_in, new_initializer
from prunec.passes.simplify.states import RECURRENT, leave_out


def picks(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value, int]]:
    """(Gather, part, index in the part) for every Gather of one element of a Concat.

    Exporters join the last states of all layers and pick one (`h_n[-1]`); the others, which
    nothing reads, would be tied to it.
    """
    for node in graph:
        if op_key(node) != "Gather" or call_of(node):
            continue
        joined, index = node.inputs[:2]
        concat = None if joined is None else joined.producer()
        position = number(index)
        if concat is None or concat.op_type != "Concat" or position is None:
            continue
        axis = attribute(node, "axis", 0)
        if concat.graph is graph and axis >= 0 and axis == attribute(concat, "axis"):
            found = _locate(concat, axis, position)
            if found is not None:
                yield node, *found


def read_part(node: ir.Node, part: ir.Value, index: int) -> None:
    """Let a Gather read one part of a Concat; the Concat goes if nothing else reads it."""
    graph, old = node.graph, node.inputs[1]
    assert isinstance(graph, ir.Graph)
    assert old is not None
    contents = np.full(old.shape.numpy() if old.shape is not None else (), index, np.int64)
    name = f"{node.outputs[0].name}.index"
    stored = new_initializer(graph, names_in(graph), name, contents)
    node.replace_input_with(1, stored)
    leave_out(node, 0, part)


def _locate(concat: ir.Node, axis: int, position: int) -> tuple[ir.Value, int] | None:
    """The part that holds a position, counted from the end if negative, and where it is in it."""
    sizes = [_size(part, axis) for part in concat.inputs]
    known = [n for n in sizes if n is not None]
    if len(known) < len(sizes):
        return None
    position += sum(known) if position < 0 else 0
    for part, size in zip(concat.inputs, known, strict=True):
        if part is not None and 0 <= position < size:
            return part, position
        position -= size
    return None


def _size(value: ir.Value | None, axis: int) -> int | None:
    """The size of an axis that does not depend on anything."""
    if value is None:
        return None
    made = value.producer()
    if (
        made is not None
        and made.op_type in RECURRENT
        and axis == 0
        and value is not made.outputs[0]
    ):
        # (D, N, H), unless the batch comes first.
        directions = 1 + (attribute(made, "direction", "forward") == "bidirectional")
        return directions if not attribute(made, "layout", 0) else None
    size = value.shape[axis] if value.shape is not None and axis < len(value.shape) else None
    return size if isinstance(size, int) else None

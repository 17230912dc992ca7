"""Sequences of tensors whose elements are known one by one become plain tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.literals import literal, number, origin
from prunec.compiler.walk import nodes
from prunec.passes.insert import free_name, names_in, new_initializer

MOST_STEPS, MOST_NODES = 64, 4096  # of a loop that is written out
SEQUENCES = frozenset({"ConcatFromSequence", "SequenceAt", "SequenceLength"})
Elements = list[ir.Value]
Known = dict[ir.Value, Elements]


def resolve(model: ir.Model) -> ir.Model:
    """A model in which sequences that are built and read at literal positions are gone.

    torch's exporter writes a split at several points so: a Loop of a literal number of steps
    inserts slices into a sequence, and SequenceAt reads them. Such loops are written out first.
    Returns `model` if nothing applies.
    """
    if not any(node.op_type in SEQUENCES and not node.domain for node in model.graph):
        return model
    copy = model.clone()
    taken = names_in(copy.graph)
    for node in list(copy.graph):
        steps = _steps(node)
        if steps is not None:
            _write_out(copy.graph, node, steps, taken)
    known: Known = {}
    for node in list(copy.graph):
        step = STEPS.get(node.op_type) if not node.domain else None
        if step is not None:
            step(copy.graph, node, known)
    _clean(copy.graph, known)
    return copy


def _clean(graph: ir.Graph, known: Known) -> None:
    """Remove what made sequences, and what only that has read."""
    for node in reversed(list(graph)):
        if any(value in known for value in node.outputs):
            _drop(graph, node)
    for node in reversed(list(graph)):
        if node.op_type == "Constant" and not node.domain:
            _drop(graph, node)
    for name, stored in list(graph.initializers.items()):
        if not (stored.uses() or stored.is_graph_output() or stored.is_graph_input()):
            del graph.initializers[name]
    # Shapes that the exporter guessed behind a sequence may be wrong; onnxruntime relies on them.
    for node in nodes(graph):
        for value in node.outputs:
            if not value.is_graph_output() or value.graph is not graph:
                value.shape = None


def _drop(graph: ir.Graph, node: ir.Node) -> None:
    """Remove a node that nobody reads."""
    if not any(v.uses() or v.is_graph_output() for v in node.outputs):
        graph.remove(node, safe=True)


def _steps(node: ir.Node) -> int | None:
    """Literal number of steps of a Loop that carries a sequence, collects nothing, never breaks."""
    if node.op_type != "Loop" or node.domain:
        return None
    body: ir.Graph = node.attributes["body"].value
    count = number(node.inputs[0])
    carried = len(node.inputs) - 2
    starts = number(node.inputs[1]) if node.inputs[1] is not None else 1
    end = origin(body.outputs[0])
    goes_on = end is body.inputs[1] or number(end) == 1
    builds = any(n.op_type.startswith("Sequence") for n in body)
    if count is None or not starts or not goes_on or not builds:
        return None
    if len(body.outputs) - 1 != carried or not 0 <= count <= MOST_STEPS:
        return None
    return count if count * len(body) <= MOST_NODES else None


def _write_out(graph: ir.Graph, loop: ir.Node, steps: int, taken: set[str]) -> None:
    """Replace a Loop by its body, once per step."""
    carried = list(loop.inputs[2:])
    for step in range(steps):
        body = loop.attributes["body"].value.clone(allow_outer_scope_values=True)
        # onnxruntime gives the rank that the body declares: scalars, or vectors of one element.
        ranks = [value.shape.rank() if value.shape is not None else 0 for value in body.inputs[:2]]
        numbers = (np.array(step, np.int64), np.array(True))
        shaped = [a.reshape([1] * rank) for a, rank in zip(numbers, ranks, strict=True)]
        given = [new_initializer(graph, taken, f"{loop.name}.{step}", a) for a in shaped]
        for inner, outer in zip(body.inputs, [*given, *carried], strict=True):
            inner.replace_all_uses_with(outer, replace_graph_outputs=True)
        for name, value in list(body.initializers.items()):
            tensor = value.const_value
            assert tensor is not None
            value.replace_all_uses_with(
                new_initializer(graph, taken, f"{name}.{step}", tensor), replace_graph_outputs=True
            )
        carried = list(body.outputs[1:])
        body.outputs.clear()
        own = list(body)
        body.remove(own)
        for node in own:
            node.name = f"{node.name}.{step}"
            for value in node.outputs:
                value.name = free_name(f"{value.name}.{step}", taken)
        graph.insert_before(loop, own)
    for old, new in zip(loop.outputs, carried, strict=True):
        assert new is not None
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(loop, safe=True)


def _empty(_: ir.Graph, node: ir.Node, known: Known) -> None:
    known[node.outputs[0]] = []


def _construct(_: ir.Graph, node: ir.Node, known: Known) -> None:
    known[node.outputs[0]] = [value for value in node.inputs if value is not None]


def _insert(_: ir.Graph, node: ir.Node, known: Known) -> None:
    sequence, element, *place = node.inputs
    before = None if sequence is None else known.get(sequence)
    if before is None or element is None:
        return
    where = len(before) if not place or place[0] is None else number(place[0])
    if where is not None:
        where %= len(before) + 1
        known[node.outputs[0]] = [*before[:where], element, *before[where:]]


def _erase(_: ir.Graph, node: ir.Node, known: Known) -> None:
    before = known.get(node.inputs[0]) if node.inputs[0] is not None else None
    place = node.inputs[1] if len(node.inputs) > 1 else None
    where = -1 if place is None else number(place)
    if before and where is not None:
        gone = where % len(before)
        known[node.outputs[0]] = before[:gone] + before[gone + 1 :]


def _at(graph: ir.Graph, node: ir.Node, known: Known) -> None:
    elements, where = _read(node, known), number(node.inputs[1])
    if elements is not None and where is not None and -len(elements) <= where < len(elements):
        _replace(graph, node, ir.Node("", "Identity", [elements[where]], name=node.name))


def _length(graph: ir.Graph, node: ir.Node, known: Known) -> None:
    elements = _read(node, known)
    if elements is not None:
        count = ir.AttrTensor("value", ir.tensor(np.array(len(elements), np.int64)))
        _replace(graph, node, ir.Node("", "Constant", [], [count], name=node.name))


def _concat(graph: ir.Graph, node: ir.Node, known: Known) -> None:
    elements = _read(node, known)
    if not elements or attribute(node, "new_axis", 0):
        return
    axis = ir.AttrInt64("axis", attribute(node, "axis"))
    _replace(graph, node, ir.Node("", "Concat", elements, [axis], name=node.name))


def _read(node: ir.Node, known: Known) -> Elements | None:
    return known.get(node.inputs[0]) if node.inputs[0] is not None else None


def _replace(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    ir.convenience.replace_nodes_and_values(
        graph, old, [old], [new], list(old.outputs), list(new.outputs)
    )


def _split(graph: ir.Graph, node: ir.Node, known: Known) -> None:
    sizes = literal(node.inputs[1]) if len(node.inputs) > 1 else None
    if sizes is None or sizes.ndim != 1:
        return
    axis = ir.AttrInt64("axis", attribute(node, "axis", 0))
    inputs, attributes = [node.inputs[0], node.inputs[1]], [axis]
    if (graph.opset_imports.get("") or 1) < 13:
        inputs, attributes = inputs[:1], [axis, ir.AttrInt64s("split", sizes.tolist())]
    split = ir.Node("", "Split", inputs, attributes, num_outputs=len(sizes), name=f"{node.name}.0")
    for k, value in enumerate(split.outputs):
        value.name = f"{node.outputs[0].name}.{k}"
    graph.insert_before(node, split)
    known[node.outputs[0]] = list(split.outputs)


STEPS: dict[str, Callable[[ir.Graph, ir.Node, Known], None]] = {
    "ConcatFromSequence": _concat,
    "SequenceAt": _at,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SequenceLength": _length,
    "SplitToSequence": _split,
}

"""Deterministic names for nodes and values that have none."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def name_everything(model: ir.Model) -> None:
    """Name every unnamed node and value of a model, subgraphs and functions included.

    Existing names stay, only nodes that share one get a suffix. Absent optional outputs keep their
    empty name: naming one would ask the operator to compute it.
    """
    _name_body(model.graph)
    for function in model.functions.values():
        _name_body(function)


def _name_body(body: ir.Graph | ir.Function) -> None:
    nodes = list(body.all_nodes())
    used = {value.name for value in _values(body, nodes) if value.name}
    for index, node in enumerate(nodes):
        for position, value in enumerate(node.outputs):
            if value.name is None or (value.name == "" and _is_read(value)):
                value.name = _fresh(f"{node.op_type}_{index}_out{position}", used)
    for position, value in enumerate(body.inputs):
        if not value.name:
            value.name = _fresh(f"input_{position}", used)
    taken = {node.name for node in nodes if node.name}
    seen: set[str] = set()
    for index, node in enumerate(nodes):
        if not node.name:
            node.name = _fresh(f"{node.op_type}_{index}", taken)
        elif node.name in seen:
            node.name = _fresh(node.name, taken)
        seen.add(node.name)


def _values(body: ir.Graph | ir.Function, nodes: list[ir.Node]) -> Iterator[ir.Value]:
    yield from body.inputs
    if isinstance(body, ir.Graph):
        yield from body.initializers.values()
    for node in nodes:
        yield from node.outputs
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                yield from attribute.value.inputs
                yield from attribute.value.initializers.values()


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _fresh(stem: str, used: set[str]) -> str:
    name, count = stem, 1
    while name in used:
        name, count = f"{stem}_{count}", count + 1
    used.add(name)
    return name

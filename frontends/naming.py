"""Deterministic names for nodes and values that have none, and one name for one value."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from prunec.compiler.walk import bodies, graphs


def name_everything(model: ir.Model) -> None:
    """Name every unnamed node and value of a model, subgraphs and functions included.

    Existing names stay, only nodes that share one get a suffix, and values inside a subgraph whose
    name some other value has too (two branches may use the same names). Absent optional outputs
    keep their empty name: naming one would ask the operator to compute it.
    """
    _name_body(model.graph)
    for function in model.functions.values():
        _name_body(function)


def _name_body(body: ir.Graph | ir.Function) -> None:
    nodes = list(body.all_nodes())
    own, inner = list(_own_values(body)), list(_inner_values(body))
    used = {value.name for value in (*own, *inner) if value.name}
    for index, node in enumerate(nodes):
        for position, value in enumerate(node.outputs):
            if value.name is None or (value.name == "" and _is_read(value)):
                value.name = fresh(f"{node.op_type}_{index}_out{position}", used)
    for position, value in enumerate(body.inputs):
        if not value.name:
            value.name = fresh(f"input_{position}", used)
    seen_values = {value.name for value in own}
    for value in inner:
        if value.name and value.name in seen_values:
            value.name = fresh(value.name, used)
        seen_values.add(value.name)
    taken = {node.name for node in nodes if node.name}
    seen: set[str] = set()
    for index, node in enumerate(nodes):
        if not node.name:
            node.name = fresh(f"{node.op_type}_{index}", taken)
        elif node.name in seen:
            node.name = fresh(node.name, taken)
        seen.add(node.name)


def _own_values(body: ir.Graph | ir.Function) -> Iterator[ir.Value]:
    yield from body.inputs
    if isinstance(body, ir.Graph):
        yield from (v for v in body.initializers.values() if not v.is_graph_input())
    for node in body:
        yield from node.outputs


def _inner_values(body: ir.Graph | ir.Function) -> Iterator[ir.Value]:
    for node in body:
        for inner in bodies(node):
            for graph in graphs(inner):
                yield from _own_values(graph)


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def fresh(stem: str, used: set[str]) -> str:
    """`stem`, with a number where it is taken; the result is taken from now on."""
    name, count = stem, 1
    while name in used:
        name, count = f"{stem}_{count}", count + 1
    used.add(name)
    return name

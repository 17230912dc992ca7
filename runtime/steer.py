"""Control flow led by hand, so that the oracle sees every body whatever the data says."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.control import is_control
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.walk import bodies, nodes

TRIPS = 3  # of a Loop that the data stops: what is carried meets itself


def steerable(model: ir.Model, facts: Facts, graph: Hypergraph) -> frozenset[str]:
    """Names of the If and Loop nodes about which the data decides and which channels run through.

    graph: of `model`.
    """
    known, live = facts.certain(), {value for value, _ in graph.axes}
    return frozenset(
        str(node.name)
        for node in nodes(model.graph)
        if is_control(node) and node.op_type != "Scan"
        if any(v is not None and v.name not in known for v in node.inputs[: _steering(node)])
        if not live.isdisjoint(_read_or_made(node))
    )


def _read_or_made(node: ir.Node) -> Iterator[str | None]:
    """Names in the bodies of a node."""
    for body in bodies(node):
        for inner in nodes(body):
            yield from (v.name for v in (*inner.inputs, *inner.outputs) if v is not None)


def steered(model: ir.Model, names: Collection[str], choice: bool) -> ir.Model:
    """A clone in which these If nodes take the then branch, or the other one.

    A Loop among them runs `TRIPS` times, unless its body says stop.
    """
    led = model.clone()
    stores = {
        "condition": _stored(led.graph, "condition", np.array(choice)),
        "start": _stored(led.graph, "start", np.array(True)),
        "trips": _stored(led.graph, "trips", np.array(TRIPS)),
    }
    for node in nodes(led.graph):
        if node.name not in names:
            continue
        if node.op_type == "If":
            node.replace_input_with(0, stores["condition"])
        else:
            node.replace_input_with(0, stores["trips"])
            node.replace_input_with(1, stores["start"])
    return led


def _steering(node: ir.Node) -> int:
    return 1 if node.op_type == "If" else 2


def _stored(graph: ir.Graph, what: str, array: NDArray[np.generic]) -> ir.Value:
    name = f"prunec.steer.{what}"
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.type = ir.Shape([]), ir.TensorType(ir.DataType.from_numpy(array.dtype))
    graph.register_initializer(value)
    return value

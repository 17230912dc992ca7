"""Which stored tensors of a model are trained, and what they are called in a state dict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from torch import nn

from prunec.compiler.calls import call_of
from prunec.compiler.ops import op_key
from prunec.runtime.torch_view.row import Array, Row
from prunec.runtime.torch_view.tensors import FLOATS

STATISTICS = frozenset([3, 4])  # positions of the running ones in BatchNormalization
FILLED = frozenset(["Concat"])  # a tensor of one number beside others is padding, not a weight


@dataclass(frozen=True, slots=True)
class Stored:
    """parameters: trained; statistics: running ones; both are written back. Value names."""

    parameters: tuple[str, ...]
    statistics: tuple[str, ...]


def stored_tensors(graph: ir.Graph) -> dict[str, ir.TensorProtocol]:
    """Name -> tensor of every initializer and every Constant node that holds one."""
    found = {
        name: value.const_value
        for name, value in graph.initializers.items()
        if value.const_value is not None
    }
    for node in graph:
        if op_key(node) == "Constant" and "value" in node.attributes:
            found[str(node.outputs[0].name)] = node.attributes["value"].as_tensor()
    return found


def trained(graph: ir.Graph, rows: Mapping[str, Row]) -> Stored:
    """The stored floats that are read as weights, also behind Transpose, Cast and the like."""
    reading = _Reading(graph, rows)
    parameters, statistics = [], []
    for name, tensor in stored_tensors(graph).items():
        value = reading.values[name]
        home = value.producer()
        if tensor.dtype not in FLOATS or (home is not None and _is_literal(home, tensor)):
            continue
        if reading.is_weight(value, tensor):
            parameters.append(name)
        elif reading.is_statistic(value):
            statistics.append(name)
    return Stored(tuple(parameters), tuple(statistics))


class _Reading:
    """How the values of a graph are read."""

    def __init__(self, graph: ir.Graph, rows: Mapping[str, Row]) -> None:
        self.rows = rows
        self.values = {str(name): value for name, value in graph.initializers.items()}
        self.values.update({str(v.name): v for node in graph for v in node.outputs})
        # Made from stored tensors alone, but for shapes and amounts.
        self.fixed: set[ir.Value] = set(graph.initializers.values())
        for node in graph:
            row = rows[op_key(node)] if op_key(node) in rows else Row(lambda: None)
            read = [v for k, v in enumerate(node.inputs) if v is not None and k not in row.host]
            if all(v in self.fixed for v in read):
                self.fixed.update(node.outputs)

    def is_weight(self, value: ir.Value, tensor: ir.TensorProtocol) -> bool:
        """Whether a stored tensor reaches a position at which weights are read."""
        pending, seen = [value], {value}
        array: Array | None = None
        while pending:
            for use in pending.pop().uses():
                node, row = use.node, self.rows.get(op_key(use.node))
                if row is None or use.idx in row.host | row.amounts:
                    continue
                if use.idx in row.operands:
                    array = tensor.numpy() if array is None else array
                    if not _is_operand(array, op_key(node)):
                        continue
                if node.outputs[0] in self.fixed:
                    new = [v for v in node.outputs if v not in seen]
                    pending += new
                    seen.update(new)
                elif use.idx in row.weights or use.idx in row.operands:
                    return True
        return False

    def is_statistic(self, value: ir.Value) -> bool:
        """Whether BatchNormalization reads a value as running mean or variance."""
        return any(
            (op_key(node) == "BatchNormalization" and position in STATISTICS)
            or (op_key(node) == "Identity" and self.is_statistic(node.outputs[0]))
            for node, position in value.uses()
        )


def _is_literal(home: ir.Node, tensor: ir.TensorProtocol) -> bool:
    """Whether a Constant node holds no weight: one number repeated, or inside a function.

    Exporters write the ones and zeros of a norm without weights so; a model-local function has
    many calls, or none, for one weight.
    """
    array = tensor.numpy()
    return call_of(home) is not None or not (array != array.reshape(-1)[:1]).any()


def _is_operand(array: Array, op: str) -> bool:
    """Whether a tensor in arithmetic may be a weight: not a number, a mask or padding."""
    if array.size < 2 or not np.isfinite(array.astype(np.float32)).all():
        return False
    return op not in FILLED or bool((array != array.reshape(-1)[0]).any())


def state_names(names: Iterable[str], owner: type[nn.Module]) -> dict[str, str]:
    """State-dict name -> stored tensor, the same string wherever torch allows it.

    torch makes modules of what stands before dots: no part may be empty, be an attribute of a
    module, or be a tensor's name and the module of another's. Such names get underscores.
    """
    taken: dict[str, str] = {}
    modules: set[str] = set()
    plain = nn.Module()
    for name in names:
        parts = name.split(".")
        legal = all(part and not hasattr(plain, part) for part in parts)
        state = name if legal and not hasattr(owner, parts[0]) else "_" + "_".join(parts)
        while state in taken or state in modules or any(p in taken for p in _prefixes(state)):
            state = state.replace(".", "_") + "_"
        taken[state] = name
        modules.update(_prefixes(state))
    return taken


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:k]) for k in range(1, len(parts))]

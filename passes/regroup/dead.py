"""Channels that nothing depends on: they leave without loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.ops import op_key
from prunec.compiler.walk import nodes
from prunec.passes.recovery.storage import stored, tensor_of
from prunec.passes.regroup.constant_channels import constant_channels
from prunec.passes.regroup.sites import stored_values

Mask = NDArray[np.bool_]
Read = tuple[str, int, int]  # node, input position, axis


def live_groups(model: ir.Model, facts: Facts, graph: Hypergraph) -> Mask:
    """(number_of_groups + 1,) False where a channel group can leave and no output changes.

    Wherever a consumer sums over such a channel, its activation is zero whatever the input is, or
    the consumer's weight for it is, but for rows of channels that leave too. A hyperedge keeps at
    least one group. The last entry, of KEPT, is True. graph: without `Freedom.residual`, under
    which what leaves is not what is zero.
    """
    reads = _Reads(model, facts, graph)
    mask = np.ones(graph.number_of_groups + 1, bool)
    while True:
        left = mask & reads.needed(mask)
        for edge in graph.edges:
            own = slice(edge.first, edge.first + edge.size)
            if not left[own].any():
                left[edge.first + int(np.argmax(mask[own]))] = True
        if (left == mask).all():
            return mask
        mask = left


class _Reads:
    """What consumers sum over; lives inside `live_groups`."""

    def __init__(self, model: ir.Model, facts: Facts, graph: Hypergraph) -> None:
        self.graph, self.contents = graph, stored_values(model)
        self.nodes = {node.name or "": node for node in nodes(model.graph)}
        self.always = self._always()
        self.zeros = self._zeros(model, facts)
        self.matrices = {read: _matrix_of(self.nodes[read[0]], read[1]) for read in graph.read_by}

    def needed(self, mask: Mask) -> Mask:
        """(number_of_groups + 1,) what some consumer needs while the groups of `mask` stay."""
        needed = self.always.copy()
        for read in self.graph.read_by:
            groups = self.graph.axes[_name(self.nodes[read[0]], read[1]), read[2]]
            matters = ~self.zeros[read] & self._weighs(read, len(groups), mask)
            needed[groups[matters]] = True
        return needed

    def _always(self) -> Mask:
        """Groups that no one sums over, that a node reads inside itself, or that leave in sets."""
        graph = self.graph
        out = np.ones(graph.number_of_groups + 1, bool)
        for name, position, axis in graph.read_by:
            out[graph.axes[_name(self.nodes[name], position), axis]] = False
        for name, position, axis in graph.recurs:
            out[graph.axes.get((_name(self.nodes[name], position), axis), KEPT)] = True
        for e in graph.subsets:
            out[graph.edges[e].first : graph.edges[e].first + graph.edges[e].size] = True
        out[KEPT] = True
        return out

    def _zeros(self, model: ir.Model, facts: Facts) -> dict[Read, Mask]:
        """Per read, where the activation is zero."""
        known = constant_channels(model, facts)
        out = {}
        for read in self.graph.read_by:
            name = _name(self.nodes[read[0]], read[1])
            found = known.get(name)
            size = len(self.graph.axes[name, read[2]])
            same = found is not None and found.axis == read[2]
            out[read] = found.values == 0 if same and found is not None else np.zeros(size, bool)
        return out

    def _weighs(self, read: Read, size: int, mask: Mask) -> Mask:
        """(size,) whether the consumer gives a channel any weight in rows that stay."""
        matrix = self.matrices[read]
        if matrix is None:
            return np.ones(size, bool)
        name, (rows, columns), groups = matrix
        if groups == size > 1:  # depthwise: a channel goes through, it is not summed
            return np.zeros(size, bool)
        tensor = tensor_of(self.contents[name])
        assert tensor is not None, name
        weight = np.moveaxis(tensor.numpy() != 0, (rows, columns), (0, 1))
        pattern = weight.reshape(*weight.shape[:2], -1).any(axis=2)
        own = self.graph.axes.get((name, rows))
        if own is not None:
            pattern &= mask[own][:, None]
        return np.asarray(pattern.reshape(groups, -1, pattern.shape[1]).any(axis=1).reshape(-1))


def _name(node: ir.Node, position: int) -> str:
    value = node.inputs[position]
    return "" if value is None else value.name or ""


def _matrix_of(node: ir.Node, position: int) -> tuple[str, tuple[int, int], int] | None:
    """Stored weight, its axes of outputs and inputs, and groups, where a channel meets a column.

    None for other consumers.
    """
    shape: dict[str, tuple[int, int]] = {
        "Conv": (0, 1),
        "Gemm": (0, 1) if _flag(node, "transB") else (1, 0),
        "MatMul": (1, 0),
    }
    axes = shape.get(op_key(node))
    found = stored(node.inputs[1]) if axes is not None and len(node.inputs) > 1 else None
    if axes is None or found is None or position != 0 or _flag(node, "transA"):
        return None
    if op_key(node) != "Conv" and len(found.shape) != 2:
        return None
    turn = found.turn or tuple(range(len(found.shape)))
    return found.name, (turn[axes[0]], turn[axes[1]]), int(attribute(node, "group", 1))


def _flag(node: ir.Node, name: str) -> Any:
    return attribute(node, name, 0)

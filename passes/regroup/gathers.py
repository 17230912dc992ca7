"""Gathers that move channels: composed where they meet, shared where equal, none for nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.walk import nodes
from prunec.passes.insert import free_name, home_of, names_in, new_initializer
from prunec.passes.recovery.storage import tensor_of
from prunec.passes.regroup.contents import alter

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A Gather: what it gives, what it takes from, along which axis, and which positions."""

    out: ir.Value
    source: ir.Value
    axis: int
    take: IntArray


class Gathers:
    """Puts Gathers into a graph. Mutable; lives inside one rewriting.

    keep_all: write every Gather, also those that move nothing, for comparison.
    """

    def __init__(self, graph: ir.Graph, keep_all: bool = False) -> None:
        self.graph, self.keep_all = graph, keep_all
        self.taken = names_in(graph) | {n.name or "" for n in nodes(graph)}
        self.placed: dict[int, Placed] = {}  # by id() of what it gives
        self.made: dict[tuple[int, int, int, bytes], ir.Value] = {}

    def names(self) -> tuple[str, ...]:
        """Names of the Gathers that are left, in graph order."""
        return tuple(
            n.name or "" for n in nodes(self.graph) if n.outputs and id(n.outputs[0]) in self.placed
        )

    def before(self, node: ir.Node, position: int, take: IntArray, axis: int) -> None:
        """Let a node read the positions `take` of an input along an axis."""
        value = node.inputs[position]
        assert value is not None, node.name
        if not self._moves(take):
            return
        earlier = None if self.keep_all else self.placed.get(id(value))
        if earlier is not None and earlier.axis == axis:
            value, take = earlier.source, earlier.take[take]
        if self._moves(take):
            value = self._gathered(node, value, take, axis)
        node.replace_input_with(position, value)

    def after(self, node: ir.Node, take: IntArray) -> None:
        """Let all who read the channels of a node's output read its positions `take` instead."""
        if not self._moves(take):
            return
        value = node.outputs[0]
        uses = list(value.uses())
        gather = self._node(node, value, take, 1, "after")
        out = gather.outputs[0]
        home = home_of(node)
        home.insert_after(node, [gather])
        for user, position in uses:
            user.replace_input_with(position, out)
        for k, result in enumerate(home.outputs):
            if result is value:
                home.outputs[k] = out
        # Who knows the result by name finds the same numbers as before.
        name, inner = value.name, free_name(f"{value.name}.blocks", self.taken)
        value.name = inner
        out.name = name
        self.placed[id(out)] = Placed(out, value, 1, take)

    def stored(self, node: ir.Node, position: int, take: IntArray) -> None:
        """Let a node read its stored vector in another order."""
        value = node.inputs[position]
        if value is None or (take == np.arange(len(take))).all():
            return
        tensor = tensor_of(value)
        if tensor is None or value.is_graph_input():
            self.before(node, position, take, axis=0)
            return
        if len(list(value.uses())) == 1 and not value.is_graph_output():
            alter(value, lambda array: array[take])
            return
        array = np.ascontiguousarray(tensor.numpy()[take])
        contents = ir.Tensor(array, dtype=tensor.dtype)
        new = new_initializer(self.graph, self.taken, f"{value.name}.{node.name}", contents)
        node.replace_input_with(position, new)

    def _moves(self, take: IntArray) -> bool:
        return self.keep_all or bool((take != np.arange(len(take))).any())

    def _gathered(self, node: ir.Node, value: ir.Value, take: IntArray, axis: int) -> ir.Value:
        home = home_of(node)
        key = (id(home), id(value), axis, take.tobytes())
        known = None if self.keep_all else self.made.get(key)
        if known is not None:
            return known
        gather = self._node(node, value, take, axis, "before")
        maker = value.producer()
        # Early enough for whoever shares it.
        if maker is not None and maker.graph is home:
            home.insert_after(maker, [gather])
        else:
            home.insert_before(home[0], [gather])
        out = self.made[key] = gather.outputs[0]
        self.placed[id(out)] = Placed(out, value, axis, take)
        return out

    def _node(
        self, node: ir.Node, value: ir.Value, take: IntArray, axis: int, where: str
    ) -> ir.Node:
        name = free_name(f"{node.name}.{where}", self.taken)
        indices = new_initializer(self.graph, self.taken, f"{name}.channels", take.astype(np.int64))
        attributes = [ir.AttrInt64("axis", axis)]
        gather = ir.Node("", "Gather", [value, indices], attributes, num_outputs=1, name=name)
        out = gather.outputs[0]
        out.name = free_name(f"{name}.out", self.taken)
        if value.dtype is not None and value.shape is not None:
            out.type, out.shape = ir.TensorType(value.dtype), ir.Shape(value.shape)
        return gather

"""A float model that computes with the values that integers stand for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.facts import Facts
from prunec.compiler.quantisation import Grid
from prunec.passes.insert import names_in, new_initializer, values_by_name

FLOAT = ir.DataType.FLOAT


def simulated(model: ir.Model, facts: Facts, activations: Mapping[str, Grid]) -> ir.Model:
    """A clone in which all readers of a value read ``Grid.fake`` of it, `{name}.fake`.

    By Div, Round, Clip and Mul in float32: any number of bits in any runtime. Operator set 11 or
    later. facts: ranks, where a grid has an axis, and element types. Outputs of the model stay.
    """
    clone = model.clone()
    graph = clone.graph
    known, taken = values_by_name(graph), names_in(graph)
    for name, grid in activations.items():
        value = known[name]
        readers = [(node, position) for node, position in value.uses()]
        fake = _Fake(graph, taken, name, value)
        shape = [1] * max(len(facts.shapes.get(name, ())), 1)
        if grid.axis is not None:
            shape[grid.axis] = -1
        wide = facts.dtypes.get(name, np.dtype(np.float32)) == np.float32
        if not wide:
            fake.op("Cast", (), to=int(FLOAT))
        scale = fake.stored("scale", grid.scale.reshape(shape if grid.axis is not None else ()))
        zero = grid.zero.reshape(scale.shape.numpy() if scale.shape else ())
        fake.op("Div", (scale,))
        fake.op("Round", ())
        if grid.zero.size == 1:
            ends = [float((end - zero).reshape(())) for end in (grid.low, grid.high)]
            fake.op("Clip", [fake.stored(f"end{k}", np.float32(e)) for k, e in enumerate(ends)])
        else:  # Clip takes one number per end
            fake.op("Max", (fake.stored("low", (grid.low - zero).astype(np.float32)),))
            fake.op("Min", (fake.stored("high", (grid.high - zero).astype(np.float32)),))
        fake.op("Mul", (scale,))
        if not wide:
            fake.op("Cast", (), to=int(ir.DataType.from_numpy(facts.dtypes[name])))
        fake.place(readers)
    return clone


class _Fake:
    """The nodes behind one value, in the making."""

    def __init__(self, graph: ir.Graph, taken: set[str], name: str, value: ir.Value) -> None:
        self.graph, self.taken, self.name, self.value = graph, taken, name, value
        self.made: list[ir.Node] = []

    @property
    def end(self) -> ir.Value:
        return self.made[-1].outputs[0] if self.made else self.value

    def stored(self, part: str, array: NDArray[np.float32] | np.float32) -> ir.Value:
        contents = np.asarray(array, np.float32)
        return new_initializer(self.graph, self.taken, f"{self.name}.fake.{part}", contents)

    def op(self, kind: str, others: tuple[ir.Value, ...] | list[ir.Value], **how: int) -> None:
        label = f"{self.name}.fake.{len(self.made)}.{kind.lower()}"
        out = ir.Value(name=label, shape=self.value.shape, type=ir.TensorType(FLOAT))
        self.made.append(ir.node(kind, [self.end, *others], how, outputs=[out], name=label))

    def place(self, readers: list[tuple[ir.Node, int]]) -> None:
        end = self.end
        end.name = f"{self.name}.fake"
        end.type = self.value.type
        for node, position in readers:
            node.replace_input_with(position, end)
        maker = self.value.producer()
        if maker is not None:
            self.graph.insert_after(maker, self.made)
        elif len(self.graph):
            self.graph.insert_before(self.graph[0], self.made)

"""Shapes inside control flow: of the inputs of a body, and what its outputs say of the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.control import Branches, Iteration, Scanned, control_of
from prunec.compiler.walk import bodies, graphs, values

Shape = tuple[int, ...]


class Tables(Protocol):
    """What is known so far, by value name: the walk of frontends/shapes.py."""

    shapes: dict[str, Shape]
    dtypes: dict[str, np.dtype[Any]]
    constants: dict[str, NDArray[Any]]
    types: dict[str, onnx.TypeProto]
    bound: dict[str, int]

    def enter_weights(self, graph: ir.Graph) -> None:
        """Enter the stored tensors of a graph."""

    def visit(self, node: ir.Node) -> None:
        """Enter the outputs of a node whose inputs are entered."""

    def declared(self, value: ir.Value) -> None:
        """Enter what the model declares for a value."""


def visit_bodies(known: Tables, node: ir.Node, opset: int) -> None:
    """Enter the values inside a node's bodies, and those of its outputs that they tell.

    Both branches of an If are entered, also where the condition is known: then the outputs are
    those of the branch taken. A value that a Loop or a Scan carries has a shape where all
    iterations have the same.
    """
    match control_of(node, opset, known.constants):
        case Branches() as control:
            _visit_branches(known, node, control)
        case Iteration() as control:
            _visit_loop(known, node, control)
        case Scanned() as control:
            _visit_scan(known, node, control)
        case None:
            for body in bodies(node):
                for graph in graphs(body):
                    known.enter_weights(graph)


def _visit_body(known: Tables, body: ir.Graph) -> None:
    known.enter_weights(body)
    for node in body:
        known.visit(node)


def _visit_branches(known: Tables, node: ir.Node, control: Branches) -> None:
    for branch in control.branches:
        _visit_body(known, branch)
    if control.taken is not None:
        for value, result in zip(node.outputs, control.taken.outputs, strict=False):
            _copy(known, result, value)
            if result.name in known.constants and value.name:
                known.constants[value.name] = known.constants[result.name]
        return
    for value, *results in zip(node.outputs, *(b.outputs for b in control.branches), strict=False):
        shapes = {known.shapes.get(str(result.name)) for result in results}
        if len(shapes) == 1:
            _copy(known, results[0], value)


def _visit_loop(known: Tables, node: ir.Node, control: Iteration) -> None:
    def enter() -> None:
        body = control.body
        _enter(known, body.inputs[0], np.dtype(np.int64), ())
        _enter(known, body.inputs[1], np.dtype(np.bool_), ())
        # The body runs in those iterations only in which its condition holds.
        known.constants[str(body.inputs[1].name)] = np.array(True)

    _visit_carrying(known, control, enter)
    trips = control.trips(known.constants)
    for value, result in zip(control.stacked(node), control.body_stacked, strict=False):
        if trips is not None:
            _stack(known, result, value, 0, trips)


def _visit_scan(known: Tables, node: ir.Node, control: Scanned) -> None:
    def enter() -> None:
        for (value, along), inner in zip(control.sequences, control.body_sequences, strict=False):
            shape = known.shapes.get(str(value.name))
            dtype = known.dtypes.get(str(value.name))
            if shape and dtype is not None:
                axis = along % len(shape)
                _enter(known, inner, dtype, (*shape[:axis], *shape[axis + 1 :]))

    _visit_carrying(known, control, enter)
    trips = control.trips(known.shapes)
    for (value, axis), result in zip(control.stacked(node), control.body_stacked, strict=False):
        if trips is not None:
            _stack(known, result, value, axis, trips)


def _visit_carrying(known: Tables, control: Iteration | Scanned, enter: Callable[[], None]) -> None:
    """Visit a body until the shapes of what it carries hold for all iterations."""
    steady = [str(start.name) in known.shapes for start, *_ in control.carried]
    bound = dict(known.bound)
    while True:
        enter()
        for (start, inner, _, _), holds in zip(control.carried, steady, strict=True):
            if holds:
                _copy(known, start, inner)
            else:
                _enter_loosely(known, start, inner)
        _visit_body(known, control.body)
        changed = [
            k
            for k, (_, inner, result, _) in enumerate(control.carried)
            if steady[k] and known.shapes.get(str(inner.name)) != known.shapes.get(str(result.name))
        ]
        if not changed:
            break
        for k in changed:
            steady[k] = False
        _forget(known, control.body)
        known.bound.clear()
        known.bound.update(bound)
    for (_, inner, _, final), holds in zip(control.carried, steady, strict=True):
        if holds and final is not None:
            _copy(known, inner, final)


def _enter_loosely(known: Tables, start: ir.Value, inner: ir.Value) -> None:
    """A carried value whose shape changes: what the model declares, or its element type."""
    if inner.shape is not None:
        known.declared(inner)
    dtype = known.dtypes.get(str(start.name))
    if str(inner.name) in known.types:
        return
    if dtype is not None:
        element = int(ir.DataType.from_numpy(dtype))
        known.types[str(inner.name)] = onnx.helper.make_tensor_type_proto(element, None)
        known.dtypes.setdefault(str(inner.name), dtype)
    elif str(start.name) in known.types:
        known.types[str(inner.name)] = known.types[str(start.name)]


def _enter(known: Tables, value: ir.Value, dtype: np.dtype[Any], shape: Shape) -> None:
    name = str(value.name)
    known.shapes[name], known.dtypes[name] = shape, dtype
    element = int(ir.DataType.from_numpy(dtype))
    known.types[name] = onnx.helper.make_tensor_type_proto(element, shape)


def _stack(known: Tables, result: ir.Value, value: ir.Value, axis: int, trips: int) -> None:
    """An output that holds the results of all iterations along an axis of its own."""
    shape, dtype = known.shapes.get(str(result.name)), known.dtypes.get(str(result.name))
    if value.name and shape is not None and dtype is not None:
        axis %= len(shape) + 1
        _enter(known, value, dtype, (*shape[:axis], trips, *shape[axis:]))


def _copy(known: Tables, source: ir.Value, target: ir.Value) -> None:
    a, b = str(source.name), target.name
    if not b:
        return
    if a in known.shapes:
        known.shapes[b] = known.shapes[a]
    if a in known.dtypes:
        known.dtypes[b] = known.dtypes[a]
    if a in known.types:
        known.types[b] = known.types[a]


def _forget(known: Tables, body: ir.Graph) -> None:
    for value in values(body):
        name = str(value.name)
        for table in (known.shapes, known.dtypes, known.types, known.constants):
            table.pop(name, None)

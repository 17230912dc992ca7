"""The float model inside of a quantised one: what its integers stand for, without Q and DQ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute
from prunec.compiler.literals import literal
from prunec.compiler.ops import op_key
from prunec.passes.apply import remove_dead
from prunec.passes.quantize.emit import METADATA
from prunec.passes.quantize.norms import new_initializer

QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
WIDE = {np.dtype(t): np.dtype(np.int32) for t in (ml_dtypes.int4, ml_dtypes.uint4)}


@dataclass(frozen=True, slots=True, eq=False)
class Stripped:
    """model: float. steps: weight or bias -> its step per element, broadcastable: how far a nearest
    integer may be off is half of that. integers: weight or bias -> the integers that it was stored
    as. pairs: values of which all readers read integers.
    """

    model: ir.Model
    steps: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    integers: dict[str, NDArray[Any]] = field(default_factory=dict)
    pairs: tuple[str, ...] = ()


def strip(model: ir.Model) -> Stripped:
    """A copy without QuantizeLinear and DequantizeLinear, in its main graph.

    A DequantizeLinear of stored integers (also behind a Cast) becomes the float tensor that they
    stand for, under the name of its result; one of what a QuantizeLinear made (also behind a Clip
    of integers) hands through what that reads. All others stay. QLinear operators stay as well.
    """
    clone = model.clone()
    found = Stripped(clone)
    pairs = []
    for node in list(clone.graph):
        if op_key(node) != DEQUANTISE:
            continue
        stored = _stored(node)
        if stored is not None:
            _put_back(clone.graph, node, stored, found)
            continue
        maker = _behind(node.inputs[0], "Clip")
        source = maker.inputs[0] if maker is not None and op_key(maker) == QUANTISE else None
        if source is not None:
            pairs.append(str(source.name))
            _hand_through(clone.graph, node, source)
    remove_dead(clone.graph)
    clone.metadata_props.pop(METADATA, None)
    return Stripped(clone, found.steps, found.integers, tuple(pairs))


def _behind(value: ir.Value | None, through: str) -> ir.Node | None:
    """What makes a value, apart from one node of this kind."""
    maker = None if value is None else value.producer()
    if maker is not None and op_key(maker) == through:
        before = maker.inputs[0]
        maker = None if before is None else before.producer()
    return maker


def _stored(node: ir.Node) -> NDArray[Any] | None:
    """The stored integers that a DequantizeLinear reads; None where they are computed."""
    value = node.inputs[0]
    maker = None if value is None else value.producer()
    if maker is not None and op_key(maker) == "Cast":
        value = maker.inputs[0]
    if value is None or literal(value) is None or literal(node.inputs[1]) is None:
        return None
    array = np.asarray(literal(value))
    return array.astype(WIDE.get(array.dtype, array.dtype))


def _spread(part: NDArray[Any], shape: tuple[int, ...], axis: int, block: int) -> NDArray[Any]:
    """A scale or zero point in a form that broadcasts with its tensor."""
    if block:
        return np.take(part, np.arange(shape[axis]) // block, axis)
    if part.size == 1:
        return part.reshape(())
    return part.reshape([-1 if k == axis else 1 for k in range(len(shape))])


def _put_back(graph: ir.Graph, node: ir.Node, integers: NDArray[Any], found: Stripped) -> None:
    scale, zero = literal(node.inputs[1]), None
    assert scale is not None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        zero = np.asarray(literal(node.inputs[2])).astype(np.int64)
    axis = int(attribute(node, "axis", 1)) % max(integers.ndim, 1)
    block = int(attribute(node, "block_size", 0))
    step = _spread(np.asarray(scale), integers.shape, axis, block)
    wide = integers.astype(np.int64)
    if zero is not None:
        wide = wide - _spread(zero, integers.shape, axis, block)
    out = node.outputs[0]
    name = str(out.name)
    contents = (wide.astype(np.float32) * step.astype(np.float32)).astype(np.asarray(scale).dtype)
    out.name = None
    value = new_initializer(graph, name, contents)
    out.replace_all_uses_with(value)
    found.steps[name] = step.astype(np.float64)
    found.integers[name] = integers


def _hand_through(graph: ir.Graph, node: ir.Node, source: ir.Value) -> None:
    """Readers of the result read what was quantised; an output of the graph keeps its name."""
    out = node.outputs[0]
    name = out.name
    if out.is_graph_output():
        for position, value in enumerate(graph.outputs):
            if value is out:
                graph.outputs[position] = source
        out.name = None
        source.name = name
    out.replace_all_uses_with(source)

"""Element types that onnxruntime has no kernels for: for the proof, both graphs get others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import ModelError
from prunec.compiler.walk import graphs, initializers, nodes, values
from prunec.frontends.shapes import infer_facts
from prunec.runtime.session import make_session
from prunec.runtime.subject import Subject, shapers

# All numbers of a narrow type are numbers of the wide one; those of DOUBLE are rounded.
STAND_INS: Mapping[ir.DataType, ir.DataType] = {
    ir.DataType.BFLOAT16: ir.DataType.FLOAT,
    ir.DataType.DOUBLE: ir.DataType.FLOAT,
    ir.DataType.FLOAT4E2M1: ir.DataType.FLOAT8E4M3FN,
}
TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


@dataclass(frozen=True, slots=True, eq=False)
class Runnable:
    """What can be run in place of a dense and a pruned model. note: what was changed, or empty."""

    subject: Subject
    pruned: ir.Model
    note: str = ""


def runnable(subject: Subject, pruned: ir.Model) -> Runnable:
    """The models themselves where onnxruntime loads the dense one, else the same in other types.

    Channels are coupled and cut alike whatever the element type is, so a proof in another type
    proves the rewriting; it says nothing about rounding in the model's own type.
    """
    found = sorted(set(_types(subject.model)) & STAND_INS.keys())
    if not found or not _fails(subject.model):
        return Runnable(subject, pruned)
    dense = with_types(subject.model)
    if _fails(dense):
        return Runnable(subject, pruned)
    facts = infer_facts(dense, subject.shapes, shapers(subject.extensions))
    words = ", ".join(f"{t.name.lower()} as {STAND_INS[t].name.lower()}" for t in found)
    return Runnable(
        replace(subject, model=dense, facts=facts),
        with_types(pruned),
        f"onnxruntime can't run the dense model in its own types; both are compared with {words}",
    )


def _fails(model: ir.Model) -> bool:
    try:
        make_session(model, optimise=False)
    except ModelError:
        return True
    return False


def _types(model: ir.Model) -> Iterator[ir.DataType]:
    for value in values(model.graph):
        if value.dtype is not None:
            yield value.dtype
    for stored in initializers(model.graph).values():
        if stored.const_value is not None:
            yield stored.const_value.dtype
    for node in nodes(model.graph):
        for attribute in node.attributes.values():
            if attribute.type is ir.AttributeType.TENSOR and not attribute.is_ref():
                yield attribute.value.dtype
            elif attribute.name in TYPE_ATTRIBUTES and attribute.type is ir.AttributeType.INT:
                yield ir.DataType(attribute.value)


def with_types(model: ir.Model) -> ir.Model:
    """A clone in which every element type of STAND_INS is replaced, bodies included."""
    clone = model.clone()
    for value in values(clone.graph):
        if isinstance(value.type, ir.TensorType):
            # A clone shares its types with the model: setting value.dtype would change both.
            value.type = ir.TensorType(STAND_INS.get(value.type.dtype, value.type.dtype))
    for graph in graphs(clone.graph):
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = _cast(value.const_value)
                value.type = ir.TensorType(value.const_value.dtype)
    for node in nodes(clone.graph):
        for name, attribute in list(node.attributes.items()):
            if attribute.is_ref():
                continue
            if attribute.type is ir.AttributeType.TENSOR:
                node.attributes[name] = ir.AttrTensor(name, _cast(attribute.value))
            elif attribute.type is ir.AttributeType.INT and name in TYPE_ATTRIBUTES:
                kind = ir.DataType(attribute.value)
                node.attributes[name] = ir.AttrInt64(name, int(STAND_INS.get(kind, kind)))
    return clone


def _cast(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """The tensor in the type that stands in; cast whenever it is read."""
    kind = STAND_INS.get(tensor.dtype)
    if kind is None:
        return tensor

    def read() -> ir.Tensor[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
        wide = tensor.numpy().astype(np.float32).astype(kind.numpy())
        return ir.Tensor(wide, dtype=kind, name=tensor.name)

    shape = ir.Shape(tensor.shape.numpy())
    return ir.LazyTensor(read, dtype=kind, shape=shape, name=tensor.name)

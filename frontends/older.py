"""Models of operator sets before 7, converted when they are loaded."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx
import onnx.version_converter

from prunec.compiler.diagnostics import Diagnostic, Severity
from prunec.compiler.errors import ModelError, first_line
from prunec.frontends.opsets import OLDEST_OPSET
from prunec.frontends.structure import DEFAULT_DOMAINS, graphs_of

ADAPTERS_SINCE = 6  # the adapters of onnx for earlier sets need shapes that onnx does not infer
BROADCASTING = frozenset(
    ["Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"]
)
REFUSED = (
    onnx.version_converter.ConvertError,
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
    RuntimeError,
    ValueError,
)


def converted(
    model: onnx.ModelProto, lifted: Collection[int], version: int, label: str
) -> tuple[onnx.ModelProto, Diagnostic]:
    """`model`, which is changed, converted to OLDEST_OPSET, and a note that says so.

    lifted: initializers whose contents are not in the proto; order and names of initializers stay.
    Raises ModelError where the conversion fails.
    """
    try:
        if version < ADAPTERS_SINCE:
            _spell_as_six(model)
        _align_operands(model, _declared(model, lifted))
        out = moved(model, lifted, OLDEST_OPSET)
    except REFUSED as error:
        raise ModelError(
            f"{label}: operator set {version} is older than {OLDEST_OPSET} and cannot be "
            f"converted: {first_line(error)}; export the model anew"
        ) from error
    text = f"operator set {version} is converted to {OLDEST_OPSET}; the written model has that"
    return out, Diagnostic("converted", "", text, Severity.INFO)


def moved(model: onnx.ModelProto, lifted: Collection[int], version: int) -> onnx.ModelProto:
    """A copy of a model in another operator set; order and names of initializers stay.

    lifted: as of `converted`. Raises one of REFUSED.
    """
    done = onnx.version_converter.convert_version(_declared(model, lifted), version)
    given = {value.name for value in model.graph.input}
    stored = {tensor.name for tensor in model.graph.initializer}
    out = onnx.ModelProto()
    out.CopyFrom(model)  # the converter drops metadata
    out.graph.CopyFrom(done.graph)
    out.graph.ClearField("input")
    out.graph.input.extend(value for value in done.graph.input if value.name in given)
    out.graph.ClearField("initializer")
    out.graph.initializer.extend(model.graph.initializer)
    out.graph.initializer.extend(t for t in done.graph.initializer if t.name not in stored)
    _stamp(out, version)
    return out


def _stamp(model: onnx.ModelProto, version: int) -> None:
    for entry in model.opset_import:
        if entry.domain in DEFAULT_DOMAINS:
            entry.version = version


def _declared(model: onnx.ModelProto, lifted: Collection[int]) -> onnx.ModelProto:
    """A copy with every initializer as a graph input, the lifted ones as nothing else."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    given = {value.name for value in out.graph.input}
    for tensor in out.graph.initializer:
        if tensor.name not in given:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            out.graph.input.append(info)
    out.graph.ClearField("initializer")
    out.graph.initializer.extend(
        tensor for k, tensor in enumerate(model.graph.initializer) if k not in lifted
    )
    return out


def _spell_as_six(model: onnx.ModelProto) -> None:
    """Rewrite, in place, what operator sets 1 to 5 spell otherwise than 6 (ONNX Changelog)."""
    for graph in graphs_of(model):
        for node in graph.node:
            _drop(node, "consumed_inputs")
            if node.op_type == "Reshape":
                for shape in _drop(node, "shape"):
                    node.input.append(_store(graph, f"{node.output[0]}.shape", shape.ints))
            elif node.op_type == "Cast":
                for to in _drop(node, "to"):
                    kind = onnx.TensorProto.DataType.Value(to.s.decode().upper()) if to.s else to.i
                    node.attribute.append(onnx.helper.make_attribute("to", kind))
            elif node.op_type == "Pad":
                for pads in _drop(node, "paddings"):
                    node.attribute.append(onnx.helper.make_attribute("pads", list(pads.ints)))
            elif node.op_type == "Concat" and not _has(node, "axis"):
                node.attribute.append(onnx.helper.make_attribute("axis", 1))
    _stamp(model, ADAPTERS_SINCE)


def _align_operands(model: onnx.ModelProto, declared: onnx.ModelProto) -> None:
    """Give second operands that start at an `axis` of the first their unit axes, in place.

    Until operator set 6 such an operand need not be aligned at the right; the adapter of onnx adds
    a wrong number of axes. declared: the same model, fit for shape inference.
    """
    graph = model.graph
    if not any(node.op_type in BROADCASTING and _has(node, "axis") for node in graph.node):
        return
    inferred = onnx.shape_inference.infer_shapes(declared).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }
    held = onnx.GraphProto()
    for node in graph.node:
        for axis in _drop(node, "axis") if node.op_type in BROADCASTING else ():
            if any(name not in ranks for name in node.input):
                raise ValueError(f"{node.op_type} {node.output[0]!r} meets an unknown shape")
            first, second = (ranks[name] for name in node.input)
            missing = range(second, first - axis.i % max(first, 1))
            if missing:
                name = _unused(graph, f"{node.output[0]}.aligned")
                unsqueeze = ("Unsqueeze", [node.input[1]], [name])
                held.node.append(onnx.helper.make_node(*unsqueeze, axes=list(missing)))
                node.input[1] = name
        held.node.append(node)
    del graph.node[:]
    graph.node.extend(held.node)


def _store(graph: onnx.GraphProto, stem: str, numbers: Sequence[int]) -> str:
    """Store integers under a name that nothing else has; returns it."""
    name = _unused(graph, stem)
    tensor = onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [len(numbers)], list(numbers))
    graph.initializer.append(tensor)
    return name


def _unused(graph: onnx.GraphProto, stem: str) -> str:
    taken = {tensor.name for tensor in graph.initializer}
    taken.update(name for node in graph.node for name in node.output)
    while stem in taken:
        stem += "_"
    return stem


def _has(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.name == name for attribute in node.attribute)


def _drop(node: onnx.NodeProto, name: str) -> list[onnx.AttributeProto]:
    """Remove the attributes of this name; returns copies of them."""
    if not _has(node, name):
        return []
    copies = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in node.attribute]
    del node.attribute[:]
    node.attribute.extend(a for a in copies if a.name != name)
    return [a for a in copies if a.name == name]

"""Model protos without their large weights: for checking, and as the frame that save() fills."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from prunec.frontends.untold import put_types_back

_ANNOTATION = "quant_parameter_tensor_names"


def proto_without_weights(
    source: onnx.ModelProto, threshold: int
) -> tuple[onnx.ModelProto, dict[int, onnx.TensorProto]]:
    """Copy a proto without the raw_data of initializers above `threshold` bytes.

    Returns (the copy, initializer index -> the original TensorProto).
    """
    out = onnx.ModelProto()
    graph, large = onnx.GraphProto(), {}
    for index, tensor in enumerate(source.graph.initializer):
        inline = tensor.data_location != onnx.TensorProto.EXTERNAL
        if inline and len(tensor.raw_data) > threshold:
            large[index] = tensor
            graph.initializer.append(_described(tensor))
        else:
            graph.initializer.append(tensor)
    _copy_fields(source, out, skip="graph")
    _copy_fields(source.graph, graph, skip="initializer")
    if source.HasField("graph"):
        out.graph.CopyFrom(graph)
    return out, large


def _described(tensor: onnx.TensorProto) -> onnx.TensorProto:
    out = onnx.TensorProto()
    _copy_fields(tensor, out, skip="raw_data")
    return out


def _copy_fields(
    source: onnx.ModelProto | onnx.GraphProto | onnx.TensorProto,
    out: onnx.ModelProto | onnx.GraphProto | onnx.TensorProto,
    *,
    skip: str,
) -> None:
    for descriptor, value in source.ListFields():
        if descriptor.name == skip:
            continue
        if descriptor.is_repeated:
            getattr(out, descriptor.name).extend(value)
        elif descriptor.message_type is not None:
            getattr(out, descriptor.name).CopyFrom(value)
        else:
            setattr(out, descriptor.name, value)


def model_without_weights(
    model: ir.Model,
) -> tuple[onnx.ModelProto, tuple[ir.TensorProtocol, ...]]:
    """Serialise a model with every initializer of the main graph described but not filled in.

    Returns (the proto, the tensors in the order of its initializers). No weight is evaluated.
    Raises ValueError for an initializer without contents.
    """
    proto = frame(model)
    tensors = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None:
            raise ValueError(f"initializer {name!r} has no contents")
        proto.graph.initializer.append(describe(name, tensor))
        tensors.append(tensor)
    return proto, tuple(tensors)


def frame(model: ir.Model) -> onnx.ModelProto:
    """Serialise a model without the initializers of its main graph."""
    graph = model.graph
    view = ir.GraphView(
        graph.inputs,
        graph.outputs,
        nodes=tuple(graph),
        doc_string=graph.doc_string,
        opset_imports=dict(graph.opset_imports),
        name=graph.name,
        metadata_props=dict(graph.metadata_props),
    )
    bare = ir.Model(
        view,  # type: ignore[arg-type]  # a GraphView does what writing needs
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        functions=tuple(model.functions.values()),
        metadata_props=dict(model.metadata_props),
        device_configurations=model.device_configurations,
    )
    proto = ir.to_proto(bare)
    _annotate(proto.graph, graph)
    _keep_metadata(proto.graph, graph)
    put_types_back(proto.graph, model)
    return proto


def _keep_metadata(proto: onnx.GraphProto, graph: ir.Graph) -> None:
    """Add the value_info of initializers that carry metadata, with the type they have now."""
    infos = []
    given = {value.name for value in graph.inputs}
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if name in given or tensor is None or not (value.metadata_props or value.doc_string):
            continue
        dims = tensor.shape.numpy()
        info = onnx.helper.make_tensor_value_info(name, int(tensor.dtype), dims)
        if value.doc_string:
            info.doc_string = value.doc_string
        for key in sorted(value.metadata_props):
            info.metadata_props.add(key=key, value=value.metadata_props[key])
        infos.append(info)
    infos += proto.value_info
    del proto.value_info[:]
    proto.value_info.extend(infos)


def _annotate(proto: onnx.GraphProto, graph: ir.Graph) -> None:
    """Add the quantization annotations of initializers, which the view does not show."""
    done = {entry.tensor_name for entry in proto.quantization_annotation}
    for name, value in graph.initializers.items():
        parameters = value.meta.get(_ANNOTATION)
        if parameters and name not in done:
            entry = proto.quantization_annotation.add(tensor_name=name)
            for key, parameter in parameters.items():
                entry.quant_parameter_tensor_names.add(key=key, value=parameter)


def describe(name: str, tensor: ir.TensorProtocol) -> onnx.TensorProto:
    """A TensorProto with name, type, shape and metadata, but without contents."""
    out = onnx.TensorProto(
        name=name, data_type=int(tensor.dtype), dims=tensor.shape.numpy(), doc_string=None
    )
    if tensor.doc_string:
        out.doc_string = tensor.doc_string
    for key in sorted(tensor.metadata_props):
        out.metadata_props.add(key=key, value=tensor.metadata_props[key])
    return out

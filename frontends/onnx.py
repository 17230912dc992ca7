"""ONNX in and out: files, bytes and protos become a checked `onnx_ir.Model`, and back."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, EncodeError

from prunec.compiler.errors import ModelError, UsageError, first_line
from prunec.frontends.checker import check_file
from prunec.frontends.digest import graph_digest
from prunec.frontends.mapped import ExternalData, map_file, materialise, tensor_view
from prunec.frontends.naming import name_everything
from prunec.frontends.older import converted
from prunec.frontends.opsets import OLDEST_OPSET, check_opsets
from prunec.frontends.origin import Origin, origin_of, set_origin
from prunec.frontends.skeleton import model_without_weights, proto_without_weights
from prunec.frontends.sparse import make_dense
from prunec.frontends.structure import (
    check_structure,
    graphs_of,
    spell_default_domain,
    tensors_in_attributes,
)
from prunec.frontends.untold import keep_types, take_types
from prunec.frontends.wire import WireError, lift_weights
from prunec.frontends.write import save, to_proto

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

__all__ = ["graph_digest", "load", "save", "to_proto"]

LIFT_ABOVE_BYTES = 1024


@dataclass(slots=True)
class _Parsed:
    """A model taken apart. proto: ours, without large weights; tensors: those, by index."""

    proto: onnx.ModelProto
    tensors: dict[int, ir.TensorProtocol]
    label: str
    path: Path | None = None
    origin: Origin = field(default_factory=Origin)


def load(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto | ir.Model | gs.Graph,
) -> ir.Model:
    """Read and check a model; its large weights stay memory-mapped.

    The result has a name on every node and value, is topologically sorted and passes
    `onnx.checker`. `source` is never changed. Raises ModelError with one line that names the file
    and the fault.

    >>> load("missing.onnx")
    Traceback (most recent call last):
        ...
    prunec.compiler.errors.ModelError: missing.onnx: no such file
    """
    if isinstance(source, str | os.PathLike):
        parsed = _parse_file(Path(source))
    elif isinstance(source, bytes):
        parsed = _parse_bytes(source, "<bytes>")
    elif isinstance(source, onnx.ModelProto):
        parsed = _take_proto(source)
    elif isinstance(source, ir.Model):
        parsed = _take_ir(source)
    elif type(source).__module__.partition(".")[0] == "onnx_graphsurgeon":
        from prunec.frontends.graphsurgeon import export_proto

        parsed = _take_proto(export_proto(source), "<onnx_graphsurgeon.Graph>")
    else:
        raise UsageError(
            f"cannot load a {type(source).__name__}: give a path, bytes, onnx.ModelProto, "
            "onnx_ir.Model or onnx_graphsurgeon.Graph (torch modules: prunec.from_torch)"
        )
    return _finish(parsed)


def _parse_file(path: Path) -> _Parsed:
    parsed = _parse_bytes(map_file(path), str(path))
    parsed.path = path
    parsed.origin = Origin(files=(str(path.resolve()),))
    return parsed


def _parse_bytes(data: bytes | mmap.mmap, label: str) -> _Parsed:
    if not data:
        raise ModelError(f"{label}: is empty")
    try:
        small, spans = lift_weights(data, LIFT_ABOVE_BYTES)
    except WireError:
        small, spans = b"", {}
    proto = onnx.ModelProto()
    try:
        # Not lifted: protobuf itself decides whether these bytes are a model.
        proto.ParseFromString(small or bytes(data))
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{label}: {_what_else(data)}") from error
    tensors = {}
    for index, span in spans.items():
        about = proto.graph.initializer[index]
        try:
            tensors[index] = tensor_view(data, span.offset, span.length, about)
        except (ValueError, TypeError) as error:
            raise ModelError(f"{label}: initializer {about.name!r}: {error}") from error
    return _Parsed(proto, tensors, label)


def _what_else(data: bytes | mmap.mmap) -> str:
    """What a file that isn't a model seems to be."""
    head = bytes(data[:256])
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the model; run `git lfs pull`"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "is a text file, not an ONNX model"
    return "is not an ONNX model, or a truncated one"


def _take_proto(source: onnx.ModelProto, label: str = "<onnx.ModelProto>") -> _Parsed:
    proto, large = proto_without_weights(source, LIFT_ABOVE_BYTES)
    tensors: dict[int, ir.TensorProtocol] = {}
    for index, tensor in large.items():
        try:
            tensors[index] = tensor_view(tensor.raw_data, 0, len(tensor.raw_data), tensor)
        except (ValueError, TypeError) as error:
            raise ModelError(f"{label}: initializer {tensor.name!r}: {error}") from error
    return _Parsed(proto, tensors, label)


def _take_ir(source: ir.Model) -> _Parsed:
    label = "<onnx_ir.Model>"
    model = source.clone()
    name_everything(model)
    try:
        proto, tensors = model_without_weights(model)
    except (ValueError, TypeError, AttributeError, EncodeError, ir.serde.SerdeError) as error:
        raise ModelError(f"{label}: {first_line(error)}") from error
    return _Parsed(proto, dict(enumerate(tensors)), label, origin=origin_of(source))


def _finish(parsed: _Parsed) -> ir.Model:
    label = parsed.label
    spell_default_domain(parsed.proto)
    dense, notes = make_dense(parsed.proto, label)
    parsed.tensors.update(dense)
    check_structure(parsed.proto, label)
    version = check_opsets(parsed.proto, label)
    external = _resolve_external(parsed)
    _check_tensors(parsed)
    check_file(parsed.proto, parsed.tensors, label)
    if version < OLDEST_OPSET:
        parsed.proto, note = converted(parsed.proto, parsed.tensors, version, label)
        notes = (*notes, note)
    types = take_types(parsed.proto)
    names = [tensor.name for tensor in parsed.proto.graph.initializer]
    try:
        model = ir.from_proto(parsed.proto)
    except (ValueError, TypeError, KeyError, AttributeError, ir.serde.SerdeError) as error:
        raise ModelError(f"{label}: {first_line(error)}") from error
    for index, tensor in parsed.tensors.items():
        value = model.graph.initializers[names[index]]
        value.const_value = tensor
        value.type = value.type or ir.TensorType(tensor.dtype)
        if value.shape is None:
            value.shape = ir.Shape(tensor.shape.numpy())
    name_everything(model)
    keep_types(model, types)
    came = parsed.origin
    files = (*came.files, *(str(path) for path in external.maps))
    set_origin(model, Origin(files, came.external or bool(external.maps), (*came.notes, *notes)))
    return model


def _resolve_external(parsed: _Parsed) -> ExternalData:
    """Map what lies in data files; tensors of subgraphs and attributes are read into the proto."""
    external = ExternalData(parsed.path, parsed.label)
    for index, tensor in enumerate(parsed.proto.graph.initializer):
        if index not in parsed.tensors and tensor.data_location == onnx.TensorProto.EXTERNAL:
            parsed.tensors[index] = external.tensor(tensor)
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    below = [t for graph in graphs_of(parsed.proto) for t in graph.initializer]
    for tensor in (*below, *tensors_in_attributes(parsed.proto)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            materialise(tensor, external.tensor(tensor))
    return external


def _check_tensors(parsed: _Parsed) -> None:
    """Check that tensors inside the proto hold what their type and shape say; onnx doesn't."""
    top = [t for k, t in enumerate(parsed.proto.graph.initializer) if k not in parsed.tensors]
    inner = [t for graph in list(graphs_of(parsed.proto))[1:] for t in graph.initializer]
    for tensor in (*top, *inner, *tensors_in_attributes(parsed.proto)):
        try:
            contents = ir.serde.deserialize_tensor(tensor).numpy()
            if contents.shape != tuple(tensor.dims):
                raise ValueError(f"holds {contents.size} elements, its shape is {tensor.dims}")
        except (ValueError, TypeError, NotImplementedError) as error:
            raise ModelError(
                f"{parsed.label}: tensor {tensor.name!r}: {first_line(error)}"
            ) from error

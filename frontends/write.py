"""Atomic, streaming writing of models: one weight in memory at a time, all files or none."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError

from prunec.compiler.errors import ModelError, OutputError
from prunec.frontends.origin import origin_of
from prunec.frontends.skeleton import describe, frame, model_without_weights
from prunec.frontends.wire import GRAPH, INITIALIZER, RAW_DATA, fields, length_delimited

PROTOBUF_LIMIT_BYTES = 2**31 - 2**20  # protobuf refuses 2 GiB; leave room for what is not weights
ALIGNMENT_BYTES = 4096  # large tensors in data files start on a page: they can be mapped
ALIGN_ABOVE_BYTES = 2**20
INLINE_BELOW_BYTES = 1024  # smaller weights stay in the model file
CHUNK_BYTES = 2**24

Weights = Sequence[tuple[str, ir.TensorProtocol]]


def save(model: ir.Model, path: str | os.PathLike[str], *, external: bool | None = None) -> None:
    """Write a model to `path`, completely or not at all.

    external: put the weights into `<path>.data` beside it; None: if the model came so, or is too
    large for one file. Weights are evaluated and written one at a time, so that memory stays
    below the largest one. The same model gives the same bytes. Raises OutputError, with nothing
    changed, where the files cannot be written or are those that the weights are mapped from.
    """
    target = Path(path)
    weights = _weights(model)
    size = sum(tensor.nbytes for _, tensor in weights)
    if external is None:
        external = origin_of(model).external or size > PROTOBUF_LIMIT_BYTES
    if size > PROTOBUF_LIMIT_BYTES and not external:
        raise OutputError(
            f"{target}: {size} bytes of weights do not fit into one protobuf file; "
            "use external data"
        )
    data = target.with_name(target.name + ".data") if external else None
    _refuse_unsafe_targets(model, target, data)
    try:
        proto = frame(model)
    except (ValueError, TypeError, AttributeError, EncodeError, ir.serde.SerdeError) as error:
        raise ModelError(f"{target}: the model cannot be serialised: {error}") from error
    try:
        with _replacing([data, target] if data is not None else [target]) as temporary:
            if data is not None:
                with temporary[0].open("wb") as file:
                    entries = _write_data_file(file, weights, data.name)
                    _flush(file)
            else:
                entries = [_Entry(name, tensor) for name, tensor in weights]
            with temporary[-1].open("wb") as file:
                _write_model(file, proto, entries)
                _flush(file)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from error


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """The model as one proto with all weights inside; for small models.

    Raises ModelError where it does not fit.
    """
    proto, tensors = model_without_weights(model)
    if sum(tensor.nbytes for tensor in tensors) > PROTOBUF_LIMIT_BYTES:
        raise ModelError("the model is too large for one protobuf; save it with external data")
    for entry, tensor in zip(proto.graph.initializer, tensors, strict=True):
        entry.CopyFrom(_complete(entry.name, _evaluated(tensor)))
    return proto


class _Entry:
    """One initializer of the model file: described in the proto, contents in it or elsewhere."""

    def __init__(
        self, name: str, tensor: ir.TensorProtocol, external: onnx.TensorProto | None = None
    ) -> None:
        self.tensor = tensor
        self.streams = external is None and not _is_text(tensor)
        # The header ends where raw_data begins, the trailer follows it: field order as protobuf's.
        proto = external or (describe(name, tensor) if self.streams else _complete(name, tensor))
        header = proto.SerializeToString(deterministic=True)
        cut = _position_of(header, RAW_DATA) if self.streams else len(header)
        self.head, self.tail = header[:cut], header[cut:]
        if self.streams:
            self.head += length_delimited(RAW_DATA, tensor.nbytes)

    @property
    def length(self) -> int:
        payload = self.tensor.nbytes if self.streams else 0
        return len(self.head) + payload + len(self.tail)

    def write(self, file: BinaryIO) -> None:
        file.write(length_delimited(INITIALIZER, self.length))
        file.write(self.head)
        if self.streams:
            _write_contents(file, self.tensor)
        file.write(self.tail)


def _weights(model: ir.Model) -> Weights:
    weights = []
    for name, value in model.graph.initializers.items():
        if value.const_value is None:
            raise ModelError(f"initializer {name!r} has no contents")
        weights.append((name, value.const_value))
    return weights


def _write_model(file: BinaryIO, proto: onnx.ModelProto, entries: Sequence[_Entry]) -> None:
    """Write `proto` with `entries` as its initializers, as if protobuf had serialised it whole."""
    graph = proto.graph.SerializeToString(deterministic=True)
    proto.ClearField("graph")
    shell = proto.SerializeToString(deterministic=True)
    cut, graph_cut = _position_of(shell, GRAPH), _position_of(graph, INITIALIZER)
    tags = (length_delimited(INITIALIZER, entry.length) for entry in entries)
    length = len(graph) + sum(len(tag) for tag in tags) + sum(entry.length for entry in entries)
    file.write(shell[:cut])
    file.write(length_delimited(GRAPH, length))
    file.write(graph[:graph_cut])
    for entry in entries:
        entry.write(file)
    file.write(graph[graph_cut:])
    file.write(shell[cut:])


def _position_of(message: bytes, number: int) -> int:
    """Where a field belongs in a message whose fields come in ascending order."""
    behind = (f.start for f in fields(message, 0, len(message)) if f.number > number)
    return next(behind, len(message))


def _write_data_file(file: BinaryIO, weights: Weights, location: str) -> list[_Entry]:
    entries = []
    position = 0
    for name, tensor in weights:
        if _is_text(tensor) or tensor.nbytes < INLINE_BELOW_BYTES:
            entries.append(_Entry(name, tensor))
            continue
        if tensor.nbytes >= ALIGN_ABOVE_BYTES:
            padding = -position % ALIGNMENT_BYTES
            file.write(bytes(padding))
            position += padding
        proto = describe(name, tensor)
        proto.data_location = onnx.TensorProto.EXTERNAL
        place = (("location", location), ("offset", position), ("length", tensor.nbytes))
        for key, value in place:
            proto.external_data.add(key=key, value=str(value))
        _write_contents(file, tensor)
        position += tensor.nbytes
        entries.append(_Entry(name, tensor, proto))
    return entries


def _write_contents(file: BinaryIO, tensor: ir.TensorProtocol) -> None:
    """Evaluate one tensor and write its bytes, without a second copy where the layout allows."""
    contents = _contents(_evaluated(tensor))
    assert len(contents) == tensor.nbytes, (tensor.name, len(contents), tensor.nbytes)
    for start in range(0, len(contents), CHUNK_BYTES):
        file.write(contents[start : start + CHUNK_BYTES])


def _evaluated(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    # Not through LazyTensor.numpy(): that may keep the result for as long as the model lives.
    while isinstance(tensor, ir.LazyTensor):
        tensor = tensor.raw()
    return tensor


def _contents(tensor: ir.TensorProtocol) -> memoryview:
    plain = isinstance(tensor, ir.Tensor | ir.ExternalTensor) and tensor.dtype.bitwidth >= 8
    if not plain or not math.prod(tensor.shape.numpy()):
        return memoryview(tensor.tobytes())
    array = tensor.numpy()
    if array.dtype.byteorder == ">" or sys.byteorder == "big":
        return memoryview(tensor.tobytes())
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _complete(name: str, tensor: ir.TensorProtocol) -> onnx.TensorProto:
    """A TensorProto with contents."""
    out = describe(name, tensor)
    if _is_text(tensor):
        out.string_data.extend(ir.serde.serialize_tensor(tensor).string_data)
    else:
        out.raw_data = bytes(_contents(tensor))
    return out


def _is_text(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype == ir.DataType.STRING


def _refuse_unsafe_targets(model: ir.Model, target: Path, data: Path | None) -> None:
    if not target.parent.is_dir():
        raise OutputError(f"{target}: folder {target.parent} does not exist")
    sources = set(origin_of(model).files)
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            sources.add(os.path.realpath(value.const_value.path))
    for path in (target, data):
        if path is None or not os.path.lexists(path):
            continue
        if not path.is_file():
            raise OutputError(f"{path}: exists and is not a regular file")
        if any(os.path.exists(source) and path.samefile(source) for source in sources):
            raise OutputError(
                f"{path}: is the input, whose weights are still needed; choose another output"
            )


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _replacing(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Give a temporary path beside each target; rename all of them at the end, or remove them."""
    temporary = [path.with_name(f".{path.name}.{secrets.token_hex(6)}.part") for path in targets]
    backups: list[tuple[Path, Path]] = []
    done: list[Path] = []
    try:
        yield temporary
        for source, target in zip(temporary[:-1], targets[:-1], strict=True):
            if target.exists():
                backup = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
                os.replace(target, backup)
                backups.append((backup, target))
            os.replace(source, target)
            done.append(target)
        os.replace(temporary[-1], targets[-1])
    except BaseException:
        for path in (*temporary, *done):
            path.unlink(missing_ok=True)
        for backup, target in backups:
            os.replace(backup, target)
        raise
    for backup, _ in backups:
        backup.unlink(missing_ok=True)

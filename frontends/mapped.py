"""Weights that stay in their file: read-only views into memory-mapped buffers."""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from prunec.compiler.errors import ModelError


def map_file(path: Path) -> mmap.mmap:
    """Map a file read-only. Raises ModelError where it is missing, no regular file, or empty."""
    if path.is_dir():
        raise ModelError(f"{path}: is a directory; give the .onnx file itself")
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ModelError(f"{path}: the file is empty")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path}: cannot be read: {reason}") from error


def tensor_view(
    buffer: bytes | memoryview | mmap.mmap, offset: int, length: int, proto: onnx.TensorProto
) -> ir.TensorProtocol:
    """The tensor that `proto` describes, with `length` bytes at `offset` of `buffer` as contents.

    Nothing is copied. Raises ValueError where type, shape and length do not fit together.
    """
    dtype = ir.DataType(proto.data_type)
    dims = tuple(proto.dims)
    if dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED) or any(dim < 0 for dim in dims):
        raise ValueError(f"element type {dtype.name} or shape {list(dims)} is not possible here")
    size = math.prod(dims)
    expected = math.ceil(dtype.bitwidth * size / 8)
    if length != expected:
        raise ValueError(f"{dtype.name} {list(dims)} takes {expected} bytes, {length} are given")
    about: dict[str, Any] = {
        "name": proto.name,
        "doc_string": proto.doc_string or None,
        "metadata_props": {entry.key: entry.value for entry in proto.metadata_props},
    }
    if dtype.bitwidth < 8:
        packed = np.frombuffer(buffer, np.uint8, count=expected, offset=offset)
        return ir.PackedTensor(packed, dtype, shape=ir.Shape(dims), **about)
    kind = np.dtype(dtype.numpy()).newbyteorder("<")
    array: np.ndarray[Any, Any] = np.frombuffer(buffer, kind, count=size, offset=offset)
    return ir.Tensor(array.reshape(dims), dtype, **about)


@dataclass(slots=True)
class ExternalData:
    """Opens the external data files of one model; each is mapped once.

    model: the model's file, None where it came without one: external data is an error then.
    """

    model: Path | None
    label: str
    maps: dict[Path, mmap.mmap] = field(default_factory=dict)

    def tensor(self, proto: onnx.TensorProto) -> ir.TensorProtocol:
        """The tensor behind a TensorProto whose data_location is EXTERNAL."""
        entries = {entry.key: entry.value for entry in proto.external_data}
        location = entries.get("location", "")
        where = f"{self.label}: external data of {proto.name!r}"
        path = self._resolve(location, where)
        try:
            offset = int(entries.get("offset") or 0)
            size = ir.DataType(proto.data_type).bitwidth * math.prod(proto.dims)
            length = int(entries["length"]) if "length" in entries else math.ceil(size / 8)
        except (ValueError, TypeError) as error:
            raise ModelError(f"{where}: {error}") from error
        if length == 0:
            return self._view(b"", 0, 0, proto, where)
        if path not in self.maps:
            self.maps[path] = map_file(path)
        available = len(self.maps[path])
        if offset < 0 or length < 0 or offset + length > available:
            raise ModelError(
                f"{where}: needs bytes {offset} to {offset + length} of {location!r}, "
                f"which holds {available}; the file is truncated or belongs to another model"
            )
        return self._view(self.maps[path], offset, length, proto, where)

    def _view(
        self, buffer: bytes | mmap.mmap, offset: int, length: int, proto: onnx.TensorProto, at: str
    ) -> ir.TensorProtocol:
        try:
            return tensor_view(buffer, offset, length, proto)
        except (ValueError, TypeError) as error:
            raise ModelError(f"{at}: {error}") from error

    def _resolve(self, location: str, where: str) -> Path:
        """The real path of a data file. Models are untrusted: it must lie in the model's folder."""
        if self.model is None:
            raise ModelError(f"{where}: lies in file {location!r}; load the model by its path")
        if not location or "\0" in location:
            raise ModelError(f"{where}: names no file")
        if os.path.isabs(location) or ".." in Path(location.replace("\\", "/")).parts:
            raise ModelError(f"{where}: path {location!r} leaves the model's folder")
        path = (self.model.parent / location).resolve()
        # Caches keep model and data as links into one store: the folder of the model's real file
        # is as good as the folder that it was named in.
        homes = (self.model.parent.resolve(), self.model.resolve().parent)
        if not any(path.is_relative_to(home) for home in homes):
            raise ModelError(f"{where}: {location!r} is a link that leaves the model's folder")
        if not path.is_file():
            raise ModelError(f"{where}: file {location!r} is missing from {self.model.parent}")
        return path


def materialise(proto: onnx.TensorProto, contents: ir.TensorProtocol) -> None:
    """Put contents that lay in an external file into the TensorProto itself."""
    proto.ClearField("external_data")
    proto.ClearField("data_location")
    proto.raw_data = contents.tobytes()

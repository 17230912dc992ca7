"""Strict scanner of the protobuf wire format; lifts the weights out of a serialised model."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

Buffer = bytes | memoryview | mmap.mmap

# Field numbers of onnx.proto (they can never change).
GRAPH = 7  # ModelProto.graph
INITIALIZER = 5  # GraphProto.initializer
RAW_DATA = 9  # TensorProto.raw_data
_EXTERNAL_FIELDS = (13, 14)  # TensorProto.external_data, TensorProto.data_location

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are no protobuf message, or one that this scanner does not vouch for."""


class Field(NamedTuple):
    """One field of a message: tag at `start`, payload in [body, end)."""

    number: int
    wire: int
    start: int
    body: int
    end: int


class Span(NamedTuple):
    """Where a weight's bytes lie in the scanned buffer."""

    offset: int
    length: int


def read_varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    """Decode one unsigned varint; returns (value, position behind it)."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise WireError(f"truncated at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise WireError(f"varint of more than ten bytes at byte {at}")


def write_varint(value: int) -> bytes:
    """Encode an unsigned varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(number: int, length: int) -> bytes:
    """Encode the tag and the length of a bytes or message field."""
    return write_varint(number << 3 | _BYTES) + write_varint(length)


def fields(data: Buffer, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message in [start, end). Raises WireError at the first oddity."""
    at = start
    while at < end:
        tag, body = read_varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        after = body
        if wire == _VARINT:
            _, after = read_varint(data, body, end)
        elif wire == _BYTES:
            length, body = read_varint(data, body, end)
            after = body + length
        elif wire == _FIXED64:
            after = body + 8
        elif wire == _FIXED32:
            after = body + 4
        else:
            raise WireError(f"wire type {wire} at byte {at}")
        if number == 0 or after > end:
            raise WireError(f"field {number} at byte {at} runs past its message")
        yield Field(number, wire, at, body, after)
        at = after


def lift_weights(data: Buffer, threshold: int) -> tuple[bytes, dict[int, Span]]:
    """Split a serialised ModelProto into a small one and the places of its large weights.

    Returns (the model without the raw_data of every top-level initializer of more than `threshold`
    bytes, initializer index -> Span in `data`). Only headers are read: cost and memory do not grow
    with the weights. Raises WireError where the model must be parsed the plain way.
    """
    model = list(fields(data, 0, len(data)))
    graphs = [field for field in model if field.number == GRAPH]
    if len(graphs) != 1 or graphs[0].wire != _BYTES:
        raise WireError("a model holds exactly one graph")
    graph, spans = _lift_from_graph(data, graphs[0], threshold)
    pieces: list[bytes] = []
    for field in model:
        if field.number == GRAPH:
            pieces += [length_delimited(GRAPH, len(graph)), graph]
        else:
            pieces.append(bytes(data[field.start : field.end]))
    return b"".join(pieces), spans


def _lift_from_graph(data: Buffer, graph: Field, threshold: int) -> tuple[bytes, dict[int, Span]]:
    pieces: list[bytes] = []
    spans: dict[int, Span] = {}
    copied, index = graph.body, 0  # everything before `copied` is in `pieces` or lifted
    for field in fields(data, graph.body, graph.end):
        if field.number != INITIALIZER:
            continue
        raw = _raw_data(data, field) if field.end - field.body > threshold else None
        if raw is not None and raw.end - raw.body > threshold:
            tensor = bytes(data[field.body : raw.start]) + bytes(data[raw.end : field.end])
            pieces += [bytes(data[copied : field.start])]
            pieces += [length_delimited(INITIALIZER, len(tensor)), tensor]
            spans[index] = Span(raw.body, raw.end - raw.body)
            copied = field.end
        index += 1
    pieces.append(bytes(data[copied : graph.end]))
    return b"".join(pieces), spans


def _raw_data(data: Buffer, tensor: Field) -> Field | None:
    """The raw_data of a TensorProto, or None where it has none or says that it lies elsewhere."""
    if tensor.wire != _BYTES:
        raise WireError(f"initializer at byte {tensor.start} is no message")
    found = None
    for field in fields(data, tensor.body, tensor.end):
        if field.number in _EXTERNAL_FIELDS:
            return None
        if field.number == RAW_DATA:
            if found is not None or field.wire != _BYTES:
                raise WireError(f"odd raw_data at byte {field.start}")
            found = field
    return found

"""The wire scanner finds weights, and vouches for nothing that it does not understand."""

from __future__ import annotations

import onnx
import pytest
from frontend_models import conv_relu

from prunec.frontends.wire import (
    WireError,
    fields,
    length_delimited,
    lift_weights,
    read_varint,
    write_varint,
)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**63])
def test_varints_survive_the_round_trip(value: int) -> None:
    data = write_varint(value)
    assert read_varint(data, 0, len(data)) == (value, len(data))


def test_lifted_model_plus_spans_is_the_model() -> None:
    model = conv_relu()
    data = model.SerializeToString()
    small, spans = lift_weights(data, 1024)
    lifted = onnx.ModelProto.FromString(small)
    assert sorted(spans) == [0, 2]
    assert len(small) < len(data) - sum(span.length for span in spans.values())
    for index, span in spans.items():
        assert not lifted.graph.initializer[index].raw_data
        lifted.graph.initializer[index].raw_data = data[span.offset : span.offset + span.length]
    assert lifted == model


def test_every_truncation_is_noticed() -> None:
    data = conv_relu().SerializeToString()
    whole = {field.start for field in fields(data, 0, len(data))}
    for end in range(1, len(data), 7):
        if end in whole:
            continue  # cut between two fields: what is left is a message
        with pytest.raises(WireError):
            lift_weights(data[:end], 1024)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 12, b"\x3b\x00", b"\x00\x00", b"hello, world", length_delimited(7, 0) * 2],
)
def test_odd_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        lift_weights(data, 1024)

"""Tensors that are made from shapes and types: constants, ranges, casts, random numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from prunec.runtime.torch_view.row import Array, Call, Row, ints, number
from prunec.runtime.torch_view.tensors import torch_type

FIRST = frozenset([0])
ZERO = np.zeros(1, np.float32)


def cast(call: Call, x: Tensor) -> Tensor:
    """ONNX Cast; floats to integers truncate, anything but zero is true."""
    return x.to(torch_type(call.get("to")))


def cast_like(_: Call, x: Tensor, like: Tensor) -> Tensor:
    """ONNX CastLike."""
    return x.to(like.dtype)


def constant_of_shape(call: Call, shape: Array) -> Array:
    """ONNX ConstantOfShape."""
    value = call.get("value", ZERO)
    return np.full(ints(shape), value.reshape(-1)[0], value.dtype)


def range_(_: Call, start: Array, stop: Array, step: Array) -> Array:
    """ONNX Range."""
    first, last, each = (np.reshape(n, -1)[0] for n in (start, stop, step))
    return np.arange(first, last, each, dtype=start.dtype)


def shape(call: Call, x: Tensor) -> Array:
    """ONNX Shape."""
    return np.array(x.shape[call.get("start", 0) : call.get("end")], np.int64)


def size(_: Call, x: Tensor) -> Array:
    """ONNX Size."""
    return np.array(x.numel(), np.int64)


def eye_like(call: Call, x: Tensor) -> Tensor:
    """ONNX EyeLike."""
    kind = call.get("dtype")
    rows, columns = x.shape
    k = call.get("k", 0)
    at = torch.arange(rows, device=x.device)[:, None] + k
    made = at == torch.arange(columns, device=x.device)
    return made.to(x.dtype if kind is None else torch_type(kind))


def _like(call: Call, x: Tensor) -> Tensor:
    kind = call.get("dtype")
    floats = kind is None and x.is_floating_point()
    return torch.empty_like(x, dtype=x.dtype if floats else torch_type(kind or ir.DataType.FLOAT))


def random_normal_like(call: Call, x: Tensor) -> Tensor:
    """ONNX RandomNormalLike, from torch's generator."""
    return _like(call, x).normal_(call.get("mean", 0.0), call.get("scale", 1.0))


def random_uniform_like(call: Call, x: Tensor) -> Tensor:
    """ONNX RandomUniformLike, from torch's generator."""
    return _like(call, x).uniform_(call.get("low", 0.0), call.get("high", 1.0))


def random_normal(call: Call) -> Tensor:
    """ONNX RandomNormal."""
    return random_normal_like(call, _shaped(call))


def random_uniform(call: Call) -> Tensor:
    """ONNX RandomUniform."""
    return random_uniform_like(call, _shaped(call))


def _shaped(call: Call) -> Tensor:
    return torch.empty(call.get("shape"), dtype=torch_type(call.get("dtype", ir.DataType.FLOAT)))


def bernoulli(call: Call, x: Tensor) -> Tensor:
    """ONNX Bernoulli."""
    kind = call.get("dtype")
    return torch.bernoulli(x).to(x.dtype if kind is None else torch_type(kind))


def window(call: Call, length: Array) -> Tensor:
    """ONNX HannWindow, HammingWindow, BlackmanWindow: generalised cosine windows."""
    kind = call.get("output_datatype", ir.DataType.FLOAT)
    n = int(number(length))
    shares = WINDOWS[call.op]
    at = torch.arange(n, dtype=torch.float64) * 2 * torch.pi
    at = at / (n if call.get("periodic", 1) else max(n - 1, 1))
    terms = [(-1) ** k * share * torch.cos(k * at) for k, share in enumerate(shares)]
    return torch.stack(terms).sum(0).to(torch_type(kind))


WINDOWS: Mapping[str, tuple[float, ...]] = {
    "BlackmanWindow": (0.42, 0.5, 0.08),
    "HammingWindow": (25 / 46, 21 / 46),
    "HannWindow": (0.5, 0.5),
}
RANDOM = frozenset(
    [
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    ]
)
ROWS: Mapping[str, Row] = {
    **{op: Row(window, host=FIRST) for op in WINDOWS},
    "Bernoulli": Row(bernoulli),
    "Cast": Row(cast),
    "CastLike": Row(cast_like),
    "ConstantOfShape": Row(constant_of_shape, host=FIRST),
    "EyeLike": Row(eye_like),
    "RandomNormal": Row(random_normal),
    "RandomNormalLike": Row(random_normal_like),
    "RandomUniform": Row(random_uniform),
    "RandomUniformLike": Row(random_uniform_like),
    "Range": Row(range_, host=frozenset([0, 1, 2])),
    "Shape": Row(shape, either=FIRST),
    "Size": Row(size, either=FIRST),
}

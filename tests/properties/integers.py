"""Blocks of quantised operators; scales are powers of two, so that floats stay exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto
from properties.builder import Builder

Block = Callable[[Builder, str], str]
Quantised = tuple[str, str, str]  # integers, scale, zero point
SCALES = np.array([0.5, 1.0, 2.0], np.float32)


def quantised(b: Builder, x: str, kind: Any = None) -> Quantised:
    scale, zero = parameters(b, kind or b.pick((np.uint8, np.int8)))
    return b.add("QuantizeLinear", [x, scale, zero]), scale, zero


def parameters(b: Builder, kind: Any) -> tuple[str, str]:
    low = 100 if kind is np.uint8 else -4
    return b.store(np.float32(1)), b.store(np.array(low + b.pick((1, 5, 9)), kind))


def floats(b: Builder, q: Quantised) -> str:
    return b.add("DequantizeLinear", list(q))


def small(b: Builder, *shape: int, kind: Any = np.int8) -> str:
    return b.store(b.rng.choice([-3, -2, 2, 3], shape).astype(kind))


def scales(b: Builder, *shape: int) -> str:
    return b.store(b.rng.choice(SCALES, shape))


def weight(b: Builder, *shape: int, axis: int = 0, kind: Any = np.int8) -> str:
    """Floats from integers with a scale and zero point for each index of `axis`, or for all."""
    count = shape[axis : axis + 1] if b.opset >= 13 and b.chance(0.7) else ()
    zeros = b.store(b.rng.integers(-2, 3, count).astype(kind))
    inputs = [small(b, *shape, kind=kind), scales(b, *count), zeros]
    return b.add("DequantizeLinear", inputs, **({"axis": axis} if count else {}))


def fake_quantised_conv(b: Builder, x: str) -> str:
    """Activation, weight and bias each behind QuantizeLinear or DequantizeLinear."""
    _, c, *space = b.shapes[x]
    x = floats(b, quantised(b, x))
    group = b.pick((1, 1, c, 2)) if c % 2 == 0 else 1
    m = c if group == c else b.pick((4, 8))
    inputs = [x, weight(b, m, c // group, *[1] * len(space))]
    if b.chance():
        count = [m] if b.opset >= 13 else []
        bias = [small(b, m, kind=np.int32), scales(b, *count)]
        inputs.append(b.add("DequantizeLinear", bias, **({"axis": 0} if count else {})))
    y = b.add("Conv", inputs, (b.shapes[x][0], m, *space), group=group)
    return floats(b, quantised(b, b.tame(y)))


def fake_quantised_activation(b: Builder, x: str) -> str:
    """A scale and zero point for each channel of an activation; a weight that is quantised live."""
    _, c, *space = b.shapes[x]
    if b.opset < 13:
        return fake_quantised_conv(b, x)
    per_channel = [b.store(np.ones(c, np.float32)), b.store(b.rng.integers(90, 99, c, np.uint8))]
    q = b.add("QuantizeLinear", [x, *per_channel], axis=1)
    x = b.add("DequantizeLinear", [q, *per_channel], axis=1)
    own = [scales(b, 6), b.store(np.zeros(6, np.int8))]
    w = b.add("QuantizeLinear", [b.integers(6, c, *[1] * len(space)), *own], axis=0)
    return b.conv_with(x, b.add("DequantizeLinear", [w, *own], axis=0))


def qlinear_conv(b: Builder, q: Quantised, m: int, group: int = 1, **kw: Any) -> Quantised:
    x, scale, zero = q
    n, c, *space = b.shapes[x]
    vector = [m] if b.chance() else []
    w = [
        small(b, m, c // group, *[1] * len(space)),
        scales(b, *vector),
        b.store(np.zeros(vector, np.int8)),
    ]
    out = parameters(b, b.weights[zero].dtype.type)
    inputs = [x, scale, zero, *w, *out]
    if b.chance():
        inputs.append(small(b, m, kind=np.int32))
    y = b.add("QLinearConv", inputs, (n, m, *space), group=group, **kw)
    return y, *out


def integer_convs(b: Builder, x: str) -> str:
    """Integers from convolution to convolution, with operators between that only move them."""
    c = b.shapes[x][1]
    q = quantised(b, x)
    if b.chance():
        q = qlinear_conv(b, q, c, c)
    y, scale, zero = qlinear_conv(b, q, 8)
    n, m, *space = b.shapes[y]
    kind = b.pick(("", "MaxPool", "Reshape", "Concat", "zero"))
    if kind == "MaxPool" and b.opset >= 12:
        y = b.add("MaxPool", [y], kernel_shape=[1] * len(space))
    elif kind == "Reshape":
        flat = b.reshape(y, (n, m, -1), (n, m, int(np.prod(space))))
        y = b.reshape(flat, (0, 0, *space), (n, m, *space))
    elif kind == "Concat":
        other = qlinear_conv(b, q, 4)
        z = b.add("Identity", [b.add("DequantizeLinear", list(other))])
        z = b.add("QuantizeLinear", [z, scale, zero])
        y = b.add("Concat", [y, z], (n, m + 4, *space), axis=1)
    elif kind == "zero":  # read with another zero point than it was made with
        zero = b.store(np.asarray(b.weights[zero] + 1, b.weights[zero].dtype))
    if kind in ("", "MaxPool", "zero") and b.chance():
        return floats(b, qlinear_conv(b, (y, scale, zero), 4, 2))
    return floats(b, qlinear_conv(b, (y, scale, zero), 6))


def integer_matmul(b: Builder, x: str) -> str:
    """QLinearMatMul with a scale for all, or for each column; of vectors, of a stack of weights."""
    n, c, *space = b.shapes[x]
    rank = len(space)
    q, scale, zero = quantised(b, x)
    y = b.transpose(q, 0, *range(2, 2 + rank), 1)
    vector = [6] if b.chance() else []
    w = [small(b, c, 6), scales(b, *vector), b.store(np.zeros(vector, np.int8))]
    if b.chance(0.3):
        units = [1] * rank
        w = [
            small(b, *units, c, 6),
            scales(b, *units, 1, 6),
            b.store(np.zeros((*units, 1, 6), "i1")),
        ]
    out = parameters(b, b.weights[zero].dtype.type)
    y = b.add("QLinearMatMul", [y, scale, zero, *w, *out], (n, *space, 6))
    if b.chance():  # channels against channels
        flat = b.reshape(y, (n, -1, 6), (n, int(np.prod(space)), 6))
        turned = b.transpose(flat, 0, 2, 1)
        gram = b.add("QLinearMatMul", [turned, *out, flat, *out, *out], (n, 6, 6))
        y = b.add("QLinearMatMul", [flat, *out, gram, *out, *out], b.shapes[flat])
        y = b.reshape(y, (n, *space, 6))
    return b.transpose(floats(b, (y, *out)), 0, 1 + rank, *range(1, 1 + rank))


def dynamic(b: Builder, x: str) -> tuple[str, str, str]:
    shapes = [b.shapes[x], (), ()]
    q, scale, zero = b.many("DynamicQuantizeLinear", [x], shapes)
    return q, scale, zero


def dynamic_conv(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    q, scale, zero = dynamic(b, x)
    w = small(b, 6, c, *[1] * len(space))
    inputs = [q, w, zero]
    if b.chance():
        inputs.append(b.store(np.array(b.pick((0, 1)), np.int8)))
    y = b.add("ConvInteger", inputs, (n, 6, *space))
    y = b.add("Mul", [b.add("Cast", [y], to=TensorProto.FLOAT), scale])
    if b.chance():  # sums of integers in which zero is 0
        raw = b.axes("ReduceSum", b.add("ConvInteger", inputs, (n, 6, *space)), [1], (n, 1, *space))
        y = b.add("Add", [y, b.add("Cast", [raw], to=TensorProto.FLOAT)])
    return b.tame(y)


def dynamic_matmul(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    rank = len(space)
    q, scale, zero = dynamic(b, b.transpose(x, 0, *range(2, 2 + rank), 1))
    count = [6] if b.chance() else []
    zeros = b.store(b.rng.integers(-2, 3, count).astype(np.int8))
    y = b.add("MatMulInteger", [q, small(b, c, 6), zero, zeros], (n, *space, 6))
    y = b.add("Cast", [y], to=TensorProto.FLOAT)
    y = b.add("Mul", [y, b.add("Mul", [scale, scales(b, 6)], (6,))])
    return b.tame(b.transpose(y, 0, 1 + rank, *range(1, 1 + rank)))


def matrix_in_blocks(b: Builder, x: str) -> str:
    """A matrix of 4-bit or 8-bit integers with a scale for each block of a row or a column."""
    n, c, *space = b.shapes[x]
    if b.opset < 21 or c < 4:
        return fake_quantised_conv(b, x)
    size = b.pick((2, 3, 8)) if c == 8 else 2
    axis, kind = b.pick((0, 0, 1)), b.pick((ml_dtypes.int4, np.int8, ml_dtypes.uint4))
    shape = [-(-c // size), 8] if axis == 0 else [c, 8 // 2]
    numbers = b.store(b.rng.integers(1, 8, (c, 8)).astype(kind))
    zeros = b.store(b.rng.integers(1, 4, shape).astype(kind))
    inputs = [numbers, scales(b, *shape), zeros]
    block = size if axis == 0 else 2
    w = b.add("DequantizeLinear", inputs, axis=axis, block_size=block)
    rank = len(space)
    y = b.transpose(x, 0, *range(2, 2 + rank), 1)
    y = b.tame(b.add("MatMul", [y, w], (n, *space, 8)))
    return b.transpose(y, 0, 1 + rank, *range(1, 1 + rank))


def float8(b: Builder, x: str) -> str:
    """Eight-bit floats on both sides of a product; their zero is zero."""
    _, c, *space = b.shapes[x]
    if b.opset < 21:
        return fake_quantised_conv(b, x)
    kind = ml_dtypes.float8_e4m3fn
    scale, zero = b.store(np.float32(1)), b.store(np.array(0, kind))
    x = b.add("DequantizeLinear", [b.add("QuantizeLinear", [x, scale, zero]), scale, zero])
    w = b.store(b.rng.choice([-2.0, 1.0, 2.0], (6, c, *[1] * len(space))).astype(kind))
    return b.conv_with(x, b.add("DequantizeLinear", [w, scales(b, 6)], axis=0))


INTEGERS: Mapping[str, Block] = {
    f.__name__: f
    for f in (
        fake_quantised_conv, fake_quantised_activation, integer_convs, integer_matmul,
        dynamic_conv, dynamic_matmul, matrix_in_blocks, float8,
    )
}  # fmt: skip

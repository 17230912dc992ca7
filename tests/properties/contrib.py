"""Blocks of onnxruntime's quantised operators (com.microsoft)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto
from properties.builder import Builder
from properties.integers import (
    Block,
    Quantised,
    dynamic,
    floats,
    parameters,
    quantised,
    scales,
    small,
)

UINT8, FLOAT = TensorProto.UINT8, TensorProto.FLOAT


def elementwise(b: Builder, x: str) -> str:
    """Two branches of integers that meet, and activations of integers."""
    n, c, *space = b.shapes[x]
    q = quantised(b, x, np.uint8)
    other = quantised(b, b.tame(b.conv(x, c)), np.uint8)
    op = b.pick(("QLinearAdd", "QLinearMul", "QLinearWhere", "QLinearConcat"))
    out = parameters(b, np.uint8)
    shape = b.shapes[x]
    if op == "QLinearConcat":
        inputs, shape = [*out, *q, *other], (n, 2 * c, *space)
        y = b.contrib(op, inputs, shape, UINT8, axis=b.pick((1, 1 - len(shape))))
    elif op == "QLinearWhere":
        condition = b.add("Greater", [x, b.store(np.float32(0))])
        y = b.contrib(op, [condition, *q, *other, *out], shape, UINT8)
    else:
        y = b.contrib(op, [*q, *other, *out], shape, UINT8)
    return floats(b, unary(b, (y, *out)))


def unary(b: Builder, q: Quantised) -> Quantised:
    out = parameters(b, np.uint8)
    op = b.pick(("QLinearLeakyRelu", "QLinearSigmoid", ""))
    if not op:
        return q
    attributes = {"alpha": 0.5} if op == "QLinearLeakyRelu" else {}
    return b.contrib(op, [*q, *out], b.shapes[q[0]], UINT8, **attributes), *out


def softmax(b: Builder, x: str) -> str:
    q = quantised(b, x, np.uint8)
    out = b.store(np.float32(1 / 16)), b.store(np.array(0, np.uint8))
    attributes = {"axis": b.pick((1, -1)), "opset": b.pick((11, 13))}
    y = b.contrib("QLinearSoftmax", [*q, *out], b.shapes[x], UINT8, **attributes)
    return b.tame(b.add("Mul", [floats(b, (y, *out)), b.store(np.float32(16))]))


def pools(b: Builder, x: str) -> str:
    """Pools of integers, channels first or last; the pooled channels meet the others."""
    n, c, *space = b.shapes[x]
    q, scale, zero = quantised(b, x, np.uint8)
    rank, units = len(space), [1] * len(space)
    last = b.chance() and rank == 2
    if last:
        q = b.transpose(q, 0, *range(2, 2 + rank), 1)
    out = parameters(b, np.uint8)
    attributes = {"channels_last": int(last)}
    if b.chance():
        shape = (n, *units, c) if last else (n, c, *units)
        y = b.contrib(
            "QLinearGlobalAveragePool", [q, scale, zero, *out], shape, UINT8, **attributes
        )
    else:
        attributes |= {"kernel_shape": units}
        inputs = [q, scale, zero, *out]
        y = b.contrib("QLinearAveragePool", inputs, b.shapes[q], UINT8, **attributes)
    if last and b.chance():
        y = b.contrib("NhwcMaxPool", [y], b.shapes[y], UINT8, kernel_shape=units)
    if last:
        y = b.transpose(y, 0, 1 + rank, *range(1, 1 + rank))
    y = floats(b, (y, *out))
    return b.tame(b.add("Add", [x, y]))


def rotated_pool(b: Builder, x: str) -> str:
    """Channels where a pool of integers expects space."""
    rank = len(b.shapes[x]) - 2
    perm = (0, 2, 1, *range(3, 2 + rank))
    q, scale, zero = quantised(b, b.transpose(x, *perm), np.uint8)
    out = parameters(b, np.uint8)
    shape = (*b.shapes[q][:2], *[1] * rank)
    y = b.contrib("QLinearGlobalAveragePool", [q, scale, zero, *out], shape, UINT8)
    y = b.transpose(floats(b, (y, *out)), *perm)
    return b.tame(b.add("Add", [x, y]))


def channels_last(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    rank = len(space)
    q, scale, zero = quantised(b, x, np.uint8)
    q = b.transpose(q, 0, *range(2, 2 + rank), 1)
    w = [small(b, 6, c, *[1] * rank), scales(b, 6), b.store(np.zeros(6, np.int8))]
    out = parameters(b, np.uint8)
    shape = (n, *space, 6)
    y = b.contrib("QLinearConv", [q, scale, zero, *w, *out], shape, UINT8, channels_last=1)
    return floats(b, (b.transpose(y, 0, 1 + rank, *range(1, 1 + rank)), *out))


def gemm(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    q, scale, zero = quantised(b, b.reshape(b.tame(b.pooled(x)), (n, c)))
    turned = b.chance()
    vector = [6] if b.chance() else []
    w = [small(b, 6, c) if turned else small(b, c, 6), scales(b, *vector)]
    inputs = [q, scale, zero, *w, b.store(np.zeros(vector, np.int8))]
    inputs.append(small(b, 6, kind=np.int32) if b.chance() else "")
    kind = b.weights[zero].dtype.type
    if b.chance():
        out = parameters(b, kind)
        element = UINT8 if kind is np.uint8 else TensorProto.INT8
        y = b.contrib("QGemm", [*inputs, *out], (n, 6), element, transB=int(turned))
        y = floats(b, (y, *out))
    else:
        y = b.contrib("QGemm", inputs, (n, 6), FLOAT, transB=int(turned))
    units = [1] * len(space)
    y = b.conv(b.reshape(b.tame(y), (n, 6, *units)), c)
    return b.tame(b.add("Add", [x, y]))


def last(b: Builder, x: str) -> str:
    return b.transpose(x, 0, *range(2, len(b.shapes[x])), 1)


def first(b: Builder, y: str) -> str:
    rank = len(b.shapes[y])
    return b.tame(b.transpose(y, 0, rank - 1, *range(1, rank - 1)))


def matmul_to_float(b: Builder, x: str) -> str:
    """Integer products with their scales in one node."""
    _n, c, *_space = b.shapes[x]
    x = last(b, x)
    shape = (*b.shapes[x][:-1], 6)
    vector = [6] if b.chance() else []
    zeros = b.store(np.zeros(vector, np.int8))
    bias = [b.integers(6)] if b.chance() else []
    if b.chance():
        inputs = [x, small(b, c, 6), scales(b, *vector), zeros, *bias]
        return first(b, b.contrib("DynamicQuantizeMatMul", inputs, shape, FLOAT))
    q, scale, zero = dynamic(b, x)
    inputs = [q, small(b, c, 6), scale, scales(b, *vector), zero, zeros, *bias]
    return first(b, b.contrib("MatMulIntegerToFloat", inputs, shape, FLOAT))


def packed_matmul(b: Builder, x: str) -> str:
    """4 or 8 bits in blocks of 16 rows, with and without zero points, flat or in two axes."""
    bits, n, k = b.pick((4, 4, 8)), 10, b.pick((64, 64, 16, 72))
    x = last(b, b.relu(b.conv(x, k)))
    blocks = -(-k // 16)
    blob, width = 16 * bits // 8, -(-blocks * bits // 8)
    table = [n * blocks] if b.chance(0.3) else [n, blocks]
    inputs = [x, b.store(b.rng.integers(0, 256, (n, blocks, blob), np.uint8)), scales(b, *table)]
    if b.chance():
        flat = [n * width] if len(table) == 1 else [n, width]
        inputs.append(b.store(b.rng.integers(0, 256, flat, np.uint8)))
    if b.chance(0.3):
        inputs += ["", "", ""][: 5 - len(inputs)]
        inputs.append(b.integers(n))
    shape = (*b.shapes[x][:-1], n)
    y = b.contrib("MatMulNBits", inputs, shape, FLOAT, K=k, N=n, bits=bits, block_size=16)
    return first(b, y)


def packed_table(b: Builder, x: str) -> str:
    """Rows of a table of 4-bit numbers in blocks of 16, picked by what the graph computes."""
    n, _c, *space = b.shapes[x]
    units = [1] * len(space)
    high = b.axes("ReduceMax", x, [1, *range(2, len(b.shapes[x]))], (n,), keepdims=0)
    rows = b.add("Cast", [b.add("Abs", [high])], to=TensorProto.INT64)
    table = b.store(b.rng.integers(0, 256, (9, 32), np.uint8))
    inputs = [table, rows, scales(b, 9, 4)]
    if b.chance():
        inputs.append(b.store(b.rng.integers(0, 256, (9, 2), np.uint8)))
    picked = b.contrib(
        "GatherBlockQuantized", inputs, (n, 64), FLOAT, block_size=16, bits=4, quantize_axis=1
    )
    y = b.tame(b.reshape(picked, (-1, 64, *units), (n, 64, *units)))
    return b.tame(b.add("Add", [x, b.conv(y, b.shapes[x][1])]))


CONTRIB: Mapping[str, Block] = {
    f"contrib_{f.__name__}": f
    for f in (
        elementwise, softmax, pools, rotated_pool, channels_last, gemm, matmul_to_float,
        packed_matmul, packed_table,
    )
}  # fmt: skip

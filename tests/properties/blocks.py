"""Blocks of random graphs that multiply, normalise and combine; every one maps (N, C, *S)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from onnx import TensorProto, numpy_helper
from properties.builder import Builder

Block = Callable[[Builder, str], str]


def plain(b: Builder, x: str) -> str:
    return b.relu(b.conv(x, k=b.pick((1, 3))))


def depthwise(b: Builder, x: str) -> str:
    c = b.shapes[x][1]
    return b.conv(x, c * b.pick((1, 2)), k=3, group=c)


def grouped(b: Builder, x: str) -> str:
    g = 2
    if b.shapes[x][1] % g or b.shapes[x][1] == g:
        return plain(b, x)
    return b.conv(x, b.pick((4, 8)), k=b.pick((1, 3)), group=g)


def transposed(b: Builder, x: str, group: int = 1, m: int = 0) -> str:
    n, c, *space = b.shapes[x]
    m = m or b.pick((2, 3, 4))
    inputs = [x, b.integers(c, m, *[2] * len(space))]
    if b.chance():
        inputs.append(b.integers(m * group))
    shape = (n, m * group, *[2 * s for s in space])
    y = b.add("ConvTranspose", inputs, shape, group=group, strides=[2] * len(space))
    half = (n, m * group, *space)
    k = [2] * len(space)
    return b.add("AveragePool", [y], half, kernel_shape=k, strides=k)


def transposed_grouped(b: Builder, x: str) -> str:
    return transposed(b, x, 2) if b.shapes[x][1] % 2 == 0 else transposed(b, x)


def transposed_depthwise(b: Builder, x: str) -> str:
    return transposed(b, x, b.shapes[x][1], b.pick((1, 2)))


def batch_norm(b: Builder, x: str) -> str:
    c = b.shapes[x][1]
    variance = b.store(b.rng.choice([0.25, 1, 4], c).astype(np.float32))
    inputs = [x, b.integers(c), b.integers(c), b.integers(c), variance]
    return b.add("BatchNormalization", inputs, epsilon=0.0)


def instance_norm(b: Builder, x: str) -> str:
    c = b.shapes[x][1]
    return b.tame(b.add("InstanceNormalization", [x, b.integers(c), b.integers(c)], epsilon=1.0))


def group_norm(b: Builder, x: str) -> str:
    c = b.shapes[x][1]
    if b.opset < 21 or c % 2:
        return instance_norm(b, x)
    g = b.pick((2, 2, c))
    inputs = [x, b.integers(c), b.integers(c)]
    return b.tame(b.add("GroupNormalization", inputs, num_groups=g, epsilon=1.0))


def rotated_norm(b: Builder, x: str) -> str:
    """Statistics that run over the channels, put where a norm expects space."""
    perm = (0, 2, 1, *range(3, len(b.shapes[x])))
    y = b.transpose(x, *perm)
    c = b.shapes[y][1]
    inputs = [y, b.integers(c), b.integers(c)]
    if b.opset >= 21 and b.chance():
        y = b.add("GroupNormalization", inputs, num_groups=c, epsilon=1.0)
    else:
        y = b.add("InstanceNormalization", inputs, epsilon=1.0)
    return b.tame(b.transpose(y, *perm))


def group_norm_of_reshapes(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    g = b.pick((2, c)) if c % 2 == 0 else c
    rest = c // g * int(np.prod(space))
    inner = b.reshape(x, (0, g, -1), (n, g, rest))
    one, zero = b.store(np.ones(g, np.float32)), b.store(np.zeros(g, np.float32))
    inner = b.add("InstanceNormalization", [inner, one, zero], epsilon=1.0)
    if b.chance():
        back = b.reshape(inner, (n, c, *space))
    else:
        back = b.add("Reshape", [inner, b.add("Shape", [x], (2 + len(space),))], (n, c, *space))
    return b.tame(b.add("Add", [b.add("Mul", [back, b.vector(x)]), b.vector(x)]))


def cut_twice(b: Builder, x: str) -> str:
    """An axis that is split, merged back, and split at other places."""
    n, _, *space = b.shapes[x]
    y = b.conv(x, 12)
    for parts in ((3, 4), b.pick(((4, 3), (2, 6), (3, 2, 2))), (2, 2, 3)):
        y = b.relu(b.reshape(y, (n, *parts, *space)))
        y = b.reshape(y, (n, 12, *space))
    return y


def prelu(b: Builder, x: str) -> str:
    _, c, *space = b.shapes[x]
    slope = b.integers(c, *[1] * len(space)) if b.chance(0.7) else b.integers(1)
    return b.add("PRelu", [x, slope])


def broadcast(b: Builder, x: str) -> str:
    op = b.pick(("Add", "Mul", "Sub", "Max", "Min"))
    other = b.pick((b.vector, b.pooled, lambda _: b.integers(), lambda _: b.integers(1)))(x)
    inputs = [other, x] if b.chance() else [x, other]
    return b.tame(b.add(op, inputs, b.shapes[x]))


def residual(b: Builder, x: str) -> str:
    return b.add("Add", [x, b.conv(x, b.shapes[x][1], k=3)])


def projection(b: Builder, x: str) -> str:
    m = b.pick((4, 8))
    y, z = b.conv(x, m), batch_norm(b, b.conv(x, m, k=3))
    return b.tame(b.add("Sum", [y, z, b.conv(x, m)]))


def twice(b: Builder, x: str) -> str:
    return b.tame(b.add("Mul", [x, x]))


def excitation(b: Builder, x: str) -> str:
    c = b.shapes[x][1]
    gate = b.conv(b.relu(b.conv(b.tame(b.pooled(x)), 4)), c)
    gate = b.add("HardSigmoid", [b.tame(gate)], alpha=0.25, beta=0.5)
    return b.tame(b.add("Mul", [x, gate]))


def shared_weight(b: Builder, x: str) -> str:
    c, rank = b.shapes[x][1], len(b.shapes[x])
    w = b.integers(c, c, *[1] * (rank - 2))
    first = b.tame(b.conv_with(x, w))
    return b.add("Add", [b.conv_with(first, w), b.conv(x, c)])


def constant_weight(b: Builder, x: str) -> str:
    _, c, *space = b.shapes[x]
    array = b.rng.choice([-1.0, 1.0], (8, c, *[1] * len(space))).astype(np.float32)
    w = b.add("Constant", [], array.shape, value=numpy_helper.from_array(array))
    return b.conv_with(x, w)


def computed_weight(b: Builder, x: str) -> str:
    """Weights behind Mul with a scale per output, behind Transpose, behind Identity."""
    _, c, *space = b.shapes[x]
    units = [1] * len(space)
    kind = b.pick(("Mul", "Transpose", "Identity", "ReduceSum", "MatMul"))
    if kind == "Mul":
        w = b.add("Mul", [b.integers(6, c, *units), b.integers(6, 1, *units)])
    elif kind == "Transpose":
        w = b.transpose(b.integers(c, 6, *units), 1, 0, *range(2, 2 + len(space)))
    elif kind == "Identity":
        w = b.add("Identity", [b.integers(6, c, *units)])
    elif kind == "ReduceSum":
        w = b.axes("ReduceSum", b.integers(6, c, 3, *units), [2], (6, c, *units), keepdims=0)
    else:
        flat = b.add("MatMul", [b.integers(6, 3), b.integers(3, 4)], (6, 4))
        flat = b.add("MatMul", [flat, b.integers(4, c)], (6, c))
        w = b.reshape(flat, (6, c, *units))
    return b.conv_with(x, w)


def matmul(b: Builder, x: str) -> str:
    """Channels last, a product with a matrix, a bias, channels first again."""
    n, c, *space = b.shapes[x]
    rank = len(space)
    y = b.transpose(x, 0, *range(2, 2 + rank), 1)
    y = b.add("MatMul", [y, b.integers(c, 6)], (n, *space, 6))
    y = b.add("Add", [y, b.integers(6)])
    return b.tame(b.transpose(y, 0, 1 + rank, *range(1, 1 + rank)))


def gemm(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    units = [1] * len(space)
    flat = b.reshape(b.tame(b.pooled(x)), (n, c))
    attrs = {}
    if b.chance():
        flat, attrs = b.transpose(flat, 1, 0), {"transA": 1}
    if b.chance():
        attrs["transB"] = 1
    w = b.integers(6, c) if "transB" in attrs else b.integers(c, 6)
    bias = b.pick(((6,), (1, 6), (), (1,), (n, 1), None))
    inputs = [flat, w] if bias is None else [flat, w, b.integers(*bias)]
    y = b.add("Gemm", inputs, (n, 6), **attrs)
    y = b.conv(b.reshape(b.tame(y), (-1, 6, *units), (n, 6, *units)), c)
    return b.tame(b.add("Add", [x, y]))


def gemm_of_weight(b: Builder, x: str) -> str:
    """A weight on the left, per sample of a batch of one: its rows are the channels."""
    n, c, *space = b.shapes[x]
    flat = b.reshape(x, (n, c, -1), (n, c, int(np.prod(space))))
    y = b.add("MatMul", [b.integers(6, c), flat], (n, 6, int(np.prod(space))))
    return b.reshape(y, (0, -1, *space), (n, 6, *space))


def attention(b: Builder, x: str) -> str:
    """x (x^T x): channels against channels, then summed over again; also vectors."""
    n, c, *space = b.shapes[x]
    s = int(np.prod(space))
    flat = b.reshape(b.tame(x), (0, c, -1), (n, c, s))
    gram = b.tame(b.add("MatMul", [flat, b.transpose(flat, 0, 2, 1)], (n, c, c)))
    y = b.add("MatMul", [gram, flat], (n, c, s))
    if b.chance():
        v = b.add("MatMul", [gram, b.integers(c)], (n, c))
        v = b.axes("Unsqueeze", v, [2], (n, c, 1))
        y = b.add("Add", [y, v])
    return b.tame(b.reshape(y, (n, c, *space)))


def einsum(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    if b.opset < 13:
        return plain(b, x)
    letters = "hwd"[: len(space)]
    y = b.add(
        "Einsum",
        [x, b.integers(6, c)],
        (n, 6, *space),
        equation=f"nc{letters}, mc -> nm{letters}",
    )
    return b.tame(y)


def einsum_of_two(b: Builder, x: str) -> str:
    """Two activations of equal channels, without an arrow."""
    n, c, *space = b.shapes[x]
    if b.opset < 13:
        return twice(b, x)
    flat = b.reshape(x, (n, c, -1), (n, c, int(np.prod(space))))
    y = b.tame(b.add("Einsum", [flat, flat], (n, c, c), equation="nab,ncb->nac"))
    y = b.axes("ReduceSum", y, [2], (n, c, 1), keepdims=1)
    return b.tame(b.add("Add", [x, b.reshape(y, (n, c, *[1] * len(space)))]))


def einsum_of_weights(b: Builder, x: str) -> str:
    """A product of two weights that are also used one after the other."""
    n, c, *space = b.shapes[x]
    if b.opset < 13:
        return plain(b, x)
    letters = "hwd"[: len(space)]
    first, second = b.integers(5, c), b.integers(6, 5)
    both = b.add("Einsum", [second, first], (6, c), equation="mk,kc->mc")
    inner = f"nc{letters},kc->nk{letters}"
    outer = f"nk{letters},mk->nm{letters}"
    h = b.tame(b.add("Einsum", [x, first], (n, 5, *space), equation=inner))
    y = b.add("Einsum", [h, second], (n, 6, *space), equation=outer)
    z = b.add("Einsum", [x, both], (n, 6, *space), equation=inner)
    return b.tame(b.add("Add", [y, z]))


def where(b: Builder, x: str) -> str:
    zero = b.store(np.array(0, np.float32))
    condition = b.add("Greater", [x, zero])
    return b.add("Where", [condition, x, b.conv(x, b.shapes[x][1])], b.shapes[x])


def layer_norm(b: Builder, x: str) -> str:
    _n, c, *space = b.shapes[x]
    rank = len(space)
    if b.opset < 17:
        return b.tame(b.add("LpNormalization", [x], axis=1, p=1))
    y = b.transpose(x, 0, *range(2, 2 + rank), 1)
    y = b.add("LayerNormalization", [y, b.integers(c), b.integers(c)], epsilon=1.0)
    return b.tame(b.transpose(y, 0, 1 + rank, *range(1, 1 + rank)))


def softmax(b: Builder, x: str) -> str:
    y = b.add("Softmax", [x], axis=b.pick((1, -1)))
    return b.tame(b.add("Mul", [y, b.store(np.array(16, np.float32))]))


def response_norm(b: Builder, x: str) -> str:
    if len(b.shapes[x]) != 4:
        return b.relu(x)
    y = b.add("LRN", [x], size=3, alpha=3.0, beta=1.0)
    return b.tame(b.add("Mul", [y, b.store(np.array(32, np.float32))]))


def mean_variance(b: Builder, x: str) -> str:
    rest = list(range(2, len(b.shapes[x])))
    y = b.add("MeanVarianceNormalization", [x], axes=b.pick(([0, *rest], [1, *rest])))
    scaled = b.add("Mul", [y, b.store(np.array(2, np.float32))])
    return b.tame(b.add("Round", [scaled]))


def extremes(b: Builder, x: str) -> str:
    n, _, *space = b.shapes[x]
    y = b.axes(b.pick(("ReduceMax", "ReduceMean")), x, [1], (n, 1, *space), keepdims=1)
    return b.tame(b.add("Add", [x, y]))


def rotated(b: Builder, x: str) -> str:
    """Channels as a spatial axis, or as the batch, of a convolution or a pool."""
    n, _c, *space = b.shapes[x]
    rank = len(space)
    if b.chance():
        perm = (1, 0, *range(2, 2 + rank))
        y = b.conv(b.transpose(x, *perm), n, k=3)
        return b.tame(b.transpose(y, *perm))
    perm = (0, 1 + rank, *range(2, 1 + rank), 1)
    y = b.transpose(x, *perm)
    if b.chance():
        y = b.conv(y, space[-1], k=3)
    else:
        y = b.add("MaxPool", [y], kernel_shape=[3] * rank, pads=[1] * 2 * rank)
    return b.tame(b.transpose(y, *perm))


def casts(b: Builder, x: str) -> str:
    y = b.add("Cast", [x], to=TensorProto.DOUBLE)
    y = b.add("Cast", [y], to=TensorProto.FLOAT)
    y = b.add("Identity", [y])
    return b.add("Dropout", [y])


def opaque(b: Builder, x: str) -> str:
    """A determinant of products of the pooled channels: an operator without a rule."""
    n, c, *space = b.shapes[x]
    pooled = b.pooled(x)
    rows, columns = b.reshape(pooled, (n, c, 1)), b.reshape(pooled, (n, 1, c))
    matrix = b.add("Add", [b.add("Mul", [rows, columns], (n, c, c)), b.store(np.eye(c, dtype="f"))])
    y = b.tame(b.add("Det", [matrix], (n,)))
    return b.add("Add", [x, b.reshape(y, (n, 1, *[1] * len(space)))])


COMBINING: Mapping[str, Block] = {
    f.__name__: f
    for f in (
        plain, depthwise, grouped, transposed, transposed_grouped, transposed_depthwise,
        batch_norm, instance_norm, group_norm, rotated_norm,
        group_norm_of_reshapes, cut_twice, prelu, broadcast,
        residual, projection, twice, excitation, shared_weight, constant_weight,
        computed_weight, matmul, gemm, gemm_of_weight, attention, einsum, einsum_of_two,
        einsum_of_weights,
        where, layer_norm, softmax, response_norm, mean_variance, extremes,
        rotated, casts, opaque,
    )
}  # fmt: skip

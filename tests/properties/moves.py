"""Blocks of random graphs that reshape, move, resize and reduce; every one maps (N, C, *S)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto, numpy_helper
from properties.blocks import Block, plain
from properties.builder import Builder
from properties.cuts import sliced


def recut(b: Builder, x: str) -> str:
    """A reshape whose sizes have no common refinement where 6 x 4 becomes 4 x 6."""
    n, _, *space = b.shapes[x]
    s = int(np.prod(space))
    y = b.reshape(b.conv(x, 6), (n, s, 6))
    return b.reshape(y, (n, s, 6, *[1] * (len(space) - 1)))


def flatten(b: Builder, x: str) -> str:
    """Flatten before a Gemm: a channel owns a run of features."""
    n, c, *space = b.shapes[x]
    f = c * int(np.prod(space))
    kind = b.pick(("Flatten", "literal", "computed", "named"))
    if kind == "Flatten":
        flat = b.add("Flatten", [x], (n, f), axis=b.pick((1, -1 - len(space))))
    elif kind == "literal":
        flat = b.reshape(x, b.pick(((0, -1), (n, f), (-1, f))), (n, f))
    elif kind == "named":
        size = b.add("Constant", [], (2,), value=numpy_helper.from_array(np.array([n, f])))
        flat = b.add("Reshape", [x, size], (n, f))
    else:
        shape = b.add("Shape", [x], (2 + len(space),))
        first = b.add("Gather", [shape, b.store(np.array(0, np.int64))], (), axis=0)
        first = b.axes("Unsqueeze", first, [0], (1,))
        rest = sliced(b, shape, 1, 2**31 - 1, 0, 1, 1 + len(space))
        rest = b.add("ReduceProd", [rest], (1,), keepdims=1)
        target = b.add("Concat", [first, rest], (2,), axis=0)
        flat = b.add("Reshape", [x, target], (n, f))
    y = b.add("Gemm", [flat, b.integers(6, f), b.integers(6)], (n, 6), transB=1)
    y = b.conv(b.reshape(b.tame(y), (n, 6, *[1] * len(space))), c)
    return b.tame(b.add("Add", [x, y]))


def unflatten(b: Builder, x: str) -> str:
    """A Gemm whose outputs become channels x space."""
    n, c, *space = b.shapes[x]
    f = 4 * int(np.prod(space))
    flat = b.reshape(b.tame(b.pooled(x)), (n, c))
    y = b.add("Gemm", [flat, b.integers(c, f)], (n, f))
    return b.tame(b.reshape(y, b.pick(((n, 4, *space), (0, -1, *space))), (n, 4, *space)))


def merge(b: Builder, x: str) -> str:
    """Channels merged with space in the other order, and two channel axes merged."""
    n, c, *space = b.shapes[x]
    rank, s = len(space), int(np.prod(space))
    y = b.transpose(x, 0, *range(2, 2 + rank), 1)
    y = b.reshape(y, (n, s * c))
    y = b.add("MatMul", [y, b.integers(s * c, 4)], (n, 4))
    pooled = b.reshape(b.tame(b.pooled(x)), (n, c, 1))
    y = b.tame(b.add("Mul", [pooled, b.reshape(b.tame(y), (n, 1, 4))], (n, c, 4)))
    y = b.reshape(y, (n, 4 * c, *[1] * rank), (n, 4 * c, *[1] * rank))
    return b.tame(b.add("Add", [x, b.conv(y, c)]))


def shuffle(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    if c % 2:
        return plain(b, x)
    rank = len(space)
    y = b.reshape(x, b.pick(((n, 2, c // 2, *space), (0, 2, -1, *space))), (n, 2, c // 2, *space))
    y = b.transpose(y, 0, 2, 1, *range(3, 3 + rank))
    return b.reshape(y, b.pick(((n, c, *space), (n, -1, *space))), (n, c, *space))


def squeezes(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    rank = len(space)
    y = b.pooled(x)
    if n > 1 and c > 1 and b.chance(0.3):
        y = b.add("Squeeze", [y], (n, c))
    else:
        y = b.axes("Squeeze", y, list(range(2, 2 + rank)), (n, c))
    y = b.axes("Unsqueeze", y, [-k - 1 for k in range(rank)], (n, c, *[1] * rank))
    return b.tame(b.add("Add", [x, y]))


def expands(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    rank = len(space)
    kind = b.pick(("pooled", "shape", "unit", "literal"))
    if kind == "pooled":
        y = b.add("Expand", [b.pooled(x), b.ints([n, c, *space])], b.shapes[x])
    elif kind == "literal":
        y = b.add("Expand", [b.pooled(x), b.ints([1, 1, *space])], b.shapes[x])
    elif kind == "shape":
        y = b.add("Expand", [b.vector(x), b.add("Shape", [x], (rank + 2,))], b.shapes[x])
    else:
        y = b.add("Expand", [b.conv(x, 1), b.ints([c, *[1] * rank])], b.shapes[x])
    return b.tame(b.add("Add", [x, y]))


def tiles(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    kind = b.pick(("space", "channels", "unit"))
    if kind == "space":
        y = b.add("Tile", [b.pooled(x), b.ints([1, 1, *space])], b.shapes[x])
        return b.tame(b.add("Add", [x, y]))
    if kind == "unit":
        y = b.add("Tile", [b.conv(x, 1), b.ints([1, c, *[1] * len(space)])], b.shapes[x])
        return b.tame(b.add("Add", [x, y]))
    return b.add("Tile", [x, b.ints([1, 2, *[1] * len(space)])], (n, 2 * c, *space))


def pooling(b: Builder, x: str) -> str:
    rank = len(b.shapes[x]) - 2
    k = [3] * rank
    if b.chance():
        return b.add("MaxPool", [x], kernel_shape=k, pads=[1] * 2 * rank)
    y = b.add("GlobalMaxPool", [x], (*b.shapes[x][:2], *[1] * rank))
    return b.tame(b.add("Add", [x, y]))


def reduces(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    axes = list(range(2, 2 + len(space)))
    kind = b.pick(("ReduceSum", "ReduceL1", "ReduceSumSquare", "space", "all"))
    if kind == "space":
        y = b.axes("ReduceMean", x, axes, (n, c), keepdims=0)
        y = b.reshape(y, (n, c, *[1] * len(space)))
        return b.tame(b.add("Add", [x, y]))
    if kind == "all":
        y = b.add("ReduceSum", [x], [1] * len(b.shapes[x]))
        return b.tame(b.add("Add", [x, b.tame(y)]))
    y = b.axes(kind, x, [1], (n, *space), keepdims=0)
    y = b.tame(b.axes("Unsqueeze", y, [1], (n, 1, *space)))
    return b.tame(b.add("Add", [x, y]))


def resize(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    shape = (n, c, *[2 * s for s in space])
    kind = b.pick(("scales", "sizes", "computed"))
    attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
             "nearest_mode": "floor"}  # fmt: skip
    roi = "" if b.opset >= 13 else b.store(np.zeros(0, np.float32))
    if kind == "scales":
        scales = b.store(np.array([1, 1, *[2] * len(space)], np.float32))
        y = b.add("Resize", [x, roi, scales], shape, **attrs)
    else:
        none = "" if b.opset >= 13 else b.store(np.zeros(0, np.float32))
        sizes = b.ints(shape)
        if kind == "computed":
            now = b.add("Shape", [x], (len(shape),))
            factors = b.ints([1, 1, *[2] * len(space)])
            sizes = b.add("Mul", [now, factors])
        y = b.add("Resize", [x, roi, none, sizes], shape, **attrs)
    k = [2] * len(space)
    return b.add("MaxPool", [y], b.shapes[x], kernel_shape=k, strides=k)


def pixels(b: Builder, x: str) -> str:
    """Space to channels and back, in both orders of DepthToSpace."""
    n, _c, *space = b.shapes[x]
    if len(space) != 2:
        return plain(b, x)
    deep = b.conv(x, 16)
    mode = b.pick(("DCR", "CRD"))
    wide = b.add("DepthToSpace", [deep], (n, 4, space[0] * 2, space[1] * 2), blocksize=2, mode=mode)
    wide = b.relu(wide)
    if b.chance():
        wide = b.conv(wide, 4)
    return b.add("SpaceToDepth", [wide], (n, 16, *space), blocksize=2)


def positions(b: Builder, x: str) -> str:
    """ArgMax, TopK and CumSum."""
    _n, _c, *space = b.shapes[x]
    kind = b.pick(("ArgMax", "TopK", "CumSum"))
    axis = b.pick((1, len(space) + 1))
    if kind == "CumSum":
        return b.tame(b.add("CumSum", [x, b.store(np.array(axis, np.int64))]))
    shape = list(b.shapes[x])
    shape[axis] = 1
    if kind == "TopK":
        y, _ = b.many("TopK", [x, b.ints([1])], [shape, shape], axis=axis)
    else:
        y = b.add("ArgMax", [x], shape, axis=axis)
        y = b.add("Cast", [y], to=TensorProto.FLOAT)
    return b.tame(b.add("Add", [x, y]))


def pixels_of_channels(b: Builder, x: str) -> str:
    """Channels as a spatial axis of SpaceToDepth."""
    n, c, *space = b.shapes[x]
    if len(space) != 2 or c % 2 or space[1] % 2:
        return plain(b, x)
    y = b.transpose(x, 0, 2, 1, 3)
    shape = (n, 4 * space[0], c // 2, space[1] // 2)
    y = b.add("SpaceToDepth", [y], shape, blocksize=2)
    y = b.add("DepthToSpace", [y], (n, space[0], c, space[1]), blocksize=2)
    return b.transpose(y, 0, 2, 1, 3)


MOVING: Mapping[str, Block] = {
    f.__name__: f
    for f in (
        recut,
        flatten,
        unflatten,
        merge,
        shuffle,
        squeezes,
        expands,
        tiles,
        pooling,
        reduces,
        resize,
        pixels,
        positions,
        pixels_of_channels,
    )
}

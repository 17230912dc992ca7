"""Blocks of random graphs that pick, place and sample; every one maps (N, C, *S)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto
from properties.blocks import Block, plain
from properties.builder import Builder


def last(b: Builder, x: str) -> tuple[str, tuple[int, ...]]:
    """Channels last, and the way back."""
    rank = len(b.shapes[x])
    y = b.transpose(x, 0, *range(2, rank), 1)
    return y, (0, rank - 1, *range(1, rank - 1))


def selected_rows(b: Builder, x: str) -> str:
    """Positions where a sum is positive go through a layer of their own: their number is data."""
    y, back = last(b, x)
    *grid, c = b.shapes[y]
    m = b.pick((4, 6))
    total = b.axes("ReduceSum", y, [len(grid)], grid, keepdims=0)
    where = b.add("NonZero", [b.add("Greater", [total, b.store(np.float32(0))], grid)], (1, 1))
    places = b.add("Transpose", [where], (1, len(grid)))
    rows = b.add("GatherND", [y, places], (1, c))
    rows = b.relu(b.add("MatMul", [rows, b.integers(c, m)], (1, m)))
    if b.chance():  # a size that is computed, beside a literal count
        count = b.add("Shape", [rows], (2,))
        first = b.add("Gather", [count, b.ints([0])], (1,), axis=0)
        target = b.add("Concat", [first, b.ints([2, m // 2])], (3,), axis=0)
        rows = b.add("Reshape", [rows, target], (1, 2, m // 2))
        rows = b.add("Reshape", [rows, b.ints([-1, m])], (1, m))
    shape = b.add("Concat", [b.add("Shape", [total], (len(grid),)), b.ints([m])], (1,), axis=0)
    empty = b.add("ConstantOfShape", [shape], (*grid, m))
    return b.transpose(b.add("ScatterND", [empty, places, rows], (*grid, m)), *back)


def gather_nd(b: Builder, x: str) -> str:
    """Rows by literal positions, with and without a batch axis."""
    y, back = last(b, x)
    n, s, *rest = b.shapes[y]
    table = np.arange(s)[::-1].reshape(s, 1)
    if b.opset >= 12 and b.chance():
        c, rank = b.shapes[x][1], len(b.shapes[x])
        y = b.transpose(x, 1, 2, 0, *range(3, rank))
        places = b.ints(np.stack([b.rng.permutation(s) for _ in range(c)])[:, :, None])
        out = b.add("GatherND", [y, places], b.shapes[y], batch_dims=1)
        return b.transpose(out, 2, 0, 1, *range(3, rank))
    if b.opset >= 12 and b.chance():
        places = b.ints(np.tile(table, (n, 1, 1)))
        out = b.add("GatherND", [y, places], (n, s, *rest), batch_dims=1)
    else:
        grid = np.stack(np.meshgrid(range(n), table, indexing="ij"), -1)
        out = b.add("GatherND", [y, b.ints(grid)], (n, s, *rest))
    return b.transpose(out, *back)


def gather_channels_nd(b: Builder, x: str) -> str:
    """Channels by literal positions: they stay."""
    c = b.shapes[x][1]
    y = b.transpose(x, 1, 0, *range(2, len(b.shapes[x])))
    y = b.add("GatherND", [y, b.ints(np.arange(c)[::-1].reshape(c, 1))], b.shapes[y])
    return b.transpose(y, 1, 0, *range(2, len(b.shapes[x])))


def elements(b: Builder, x: str) -> str:
    """Elements picked along space or channels by computed or literal positions."""
    rank = len(b.shapes[x])
    axis = b.pick((1, rank - 1, -1))
    shape = list(b.shapes[x])
    low = b.rng.integers(0, shape[axis], shape)
    if b.chance():
        shape[2] = max(1, shape[2] // 2)
        low = low[:, :, : shape[2]]
        y = b.add("GatherElements", [x, b.ints(low % shape[axis])], shape, axis=axis)
        return b.conv(y, 4)
    positive = b.add("Cast", [b.add("Greater", [x, b.store(np.float32(0))])], to=TensorProto.INT64)
    if b.shapes[x][axis] == 1:
        return plain(b, x)
    return b.add("GatherElements", [x, positive], shape, axis=axis)


def place(b: Builder, x: str) -> str:
    """Elements put along space or channels."""
    axis = b.pick((1, 2))
    shape = list(b.shapes[x])
    other = b.conv(x, shape[1])
    if b.chance():
        shape[axis] = 1
        other = b.axes("ReduceSum", other, [axis], shape)
    elif b.chance() and axis == 1 and shape[2] > 1:
        shape[2] = 1
        other = b.axes("ReduceSum", other, [2], shape)
    table = np.argsort(b.rng.random(shape), axis)
    return b.add("ScatterElements", [x, b.ints(table), other], b.shapes[x], axis=axis)


def place_rows(b: Builder, x: str) -> str:
    """ScatterND over batch and space, or over the batch alone."""
    n, c, *_ = b.shapes[x]
    if b.chance():
        update = b.conv(x, c)
        return b.add("ScatterND", [x, b.ints(np.arange(n)[::-1].reshape(n, 1)), update])
    y, back = last(b, x)
    *grid, _ = b.shapes[y]
    update, _ = last(b, b.conv(x, c))
    table = np.stack(np.meshgrid(*[range(k) for k in grid], indexing="ij"), -1)
    return b.transpose(b.add("ScatterND", [y, b.ints(table), update]), *back)


def compress(b: Builder, x: str) -> str:
    """A literal condition over channels or space; or over all elements."""
    shape = list(b.shapes[x])
    axis = b.pick((1, 2))
    keep = np.arange(shape[axis]) % 2 == 0
    shape[axis] = int(keep.sum())
    return b.conv(b.add("Compress", [x, b.store(keep)], shape, axis=axis), 4)


def triangle(b: Builder, x: str) -> str:
    """A triangle of space, or of space and channels."""
    if b.opset < 14:
        return plain(b, x)
    if b.chance():
        return b.add("Trilu", [x], upper=b.pick((0, 1)))
    y, back = last(b, x)
    return b.transpose(b.add("Trilu", [y], upper=0), *back)


def reversed_sequences(b: Builder, x: str) -> str:
    """Channels as time, or space as time."""
    y, back = (x, ()) if b.chance() else last(b, x)
    n, length, *_ = b.shapes[y]
    y = b.add("ReverseSequence", [y, b.ints([length] * n)], time_axis=1, batch_axis=0)
    return b.transpose(y, *back) if back else y


def crop_or_pad(b: Builder, x: str) -> str:
    """CenterCropPad of channels, or of space with the channels named."""
    n, c, *space = b.shapes[x]
    if b.opset < 18:
        return plain(b, x)
    if b.chance():
        return b.conv(b.add("CenterCropPad", [x, b.ints([c + 2])], (n, c + 2, *space), axes=[1]), 4)
    shape = (n, c, space[0] + 2, *space[1:])
    y = b.add("CenterCropPad", [x, b.ints([c, space[0] + 2])], shape, axes=[1, 2])
    return b.add("CenterCropPad", [y, b.ints([n, c, *space])], (n, c, *space))


def cropped_channels(b: Builder, x: str) -> str:
    """Negative amounts of a Pad: on the channels alone, or with space."""
    n, c, *space = b.shapes[x]
    if c < 3:
        return plain(b, x)
    both = b.chance()
    zero = [0] * len(space)
    rest = [1, *zero[1:]] if both else zero
    pads = [0, -1, *rest, 0, 0, *zero]
    inputs, attrs = ([x, b.ints(pads)], {}) if b.opset >= 11 else ([x], {"pads": pads})
    shape = (n, c - 1, space[0] + both, *space[1:])
    return b.conv(b.add("Pad", inputs, shape, **attrs), 4)


def regions(b: Builder, x: str) -> str:
    """Boxes of one cell: RoiAlign at whole positions, or MaxRoiPool."""
    n, c, *space = b.shapes[x]
    if len(space) != 2 or b.opset < 16:
        return plain(b, x)
    boxes = b.store(np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.float32))
    image = b.ints([0, n - 1])
    kind = {"output_height": 1, "output_width": 1, "sampling_ratio": 1}
    kind |= {"coordinate_transformation_mode": "half_pixel"}
    y = b.add("RoiAlign", [x, boxes, image], (2, c, 1, 1), **kind)
    y = b.axes("ReduceSum", b.conv(y, 4), [0], (1, 4, 1, 1))
    return b.add("Add", [b.conv(x, 4), y])


def blocks_to_image(b: Builder, x: str) -> str:
    """Col2Im: every channel leaves with its block."""
    n, _, *space = b.shapes[x]
    if len(space) != 2 or b.opset < 18:
        return plain(b, x)
    size = int(np.prod(space))
    wide = b.conv(x, 4 * b.pick((2, 3)))
    m = b.shapes[wide][1]
    flat = b.reshape(wide, (n, m, size))
    big = [2 * s for s in space]
    out = (n, m // 4, *big)
    y = b.add("Col2Im", [flat, b.ints(big), b.ints([2, 2])], out, strides=[2, 2])
    return b.add("MaxPool", [y], (n, m // 4, *space), kernel_shape=[2, 2], strides=[2, 2])


def unpooled(b: Builder, x: str) -> str:
    """MaxPool and MaxUnpool; or the indices seen by others."""
    n, c, *space = b.shapes[x]
    if len(space) != 2 or any(s % 2 for s in space):
        return plain(b, x)
    half = (n, c, *[s // 2 for s in space])
    k = {"kernel_shape": [2, 2], "strides": [2, 2]}
    y, places = b.many("MaxPool", [x], [half, half], **k)
    if b.chance(0.3):
        seen = b.add("Cast", [places], half, to=TensorProto.FLOAT)
        return b.conv(b.add("Add", [y, seen]), 4)
    if b.chance(0.3):
        places = b.add("Identity", [places], half)
    if b.chance():
        y = b.relu(b.conv(y, c))
    inputs = [y, places]
    if b.chance():
        inputs.append(b.ints([n, c, *space]))
    return b.add("MaxUnpool", inputs, (n, c, *space), **k)


def einsum_forms(b: Builder, x: str) -> str:
    """Ellipses, a diagonal, unit axes that stretch."""
    n, c, *space = b.shapes[x]
    if b.opset < 12:
        return plain(b, x)
    form = b.pick(("ellipsis", "trace", "unit"))
    if form == "ellipsis":
        y, back = last(b, x)
        m = b.pick((4, 6))
        inputs = [y, b.integers(c, m)]
        y = b.add("Einsum", inputs, (*b.shapes[y][:-1], m), equation="...i, ij -> ...j")
        return b.transpose(y, *back)
    size = int(np.prod(space))
    flat = b.reshape(x, (n, c, size))
    if form == "trace":
        square = b.add("Einsum", [flat, b.integers(c, c)], (n, c, c), equation="nct,cd->ncd")
        y = b.add("Einsum", [square], (n, 1), equation="ncc->n") if b.chance() else ""
        if y:
            y = b.reshape(y, (n, 1, *[1] * len(space)))
            return b.add("Add", [x, y])
        y = b.add("Einsum", [square], (n, c), equation="ncc->nc")
        return b.add("Mul", [x, b.reshape(y, (n, c, *[1] * len(space)))])
    unit = b.axes("ReduceSum", flat, [1], (n, 1, size))
    y = b.add("Einsum", [unit, b.integers(c, 4)], (n, 4, size), equation="nct,cd->ndt")
    return b.reshape(y, (n, 4, *space))


def resize_by_sizes(b: Builder, x: str) -> str:
    """Sizes from a Shape, beside a literal number of channels."""
    n, c, *space = b.shapes[x]
    if b.opset < 13:
        return plain(b, x)
    shape = b.add("Shape", [x], (len(space) + 2,))
    first = b.add("Slice", [shape, b.ints([2]), b.ints([2 + len(space)])], (len(space),))
    double = b.add("Mul", [first, b.ints([2])])
    sizes = b.add("Concat", [b.ints([n, c]), double], (len(space) + 2,), axis=0)
    big = (n, c, *[2 * s for s in space])
    nearest = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    y = b.add("Resize", [x, "", "", sizes], big, mode="nearest", **nearest)
    k = [2] * len(space)
    return b.add("MaxPool", [y], (n, c, *space), kernel_shape=k, strides=k)


def deformed(b: Builder, x: str) -> str:
    """A deformable convolution whose offsets are computed, in groups of both kinds."""
    n, c, *space = b.shapes[x]
    if len(space) != 2 or b.opset < 19 or c % 2:
        return plain(b, x)
    group, offsets = b.pick(((1, 1), (1, 2), (2, 1), (2, 2)))
    m = b.pick((4, 8))
    inputs = [x, b.integers(m, c // group, 1, 1), b.conv(x, 2 * offsets)]
    inputs.append(b.integers(m) if b.chance() else "")
    if b.chance():
        inputs.append(b.conv(x, offsets))
    kind = {"group": group, "offset_group": offsets, "kernel_shape": [1, 1]}
    return b.add("DeformConv", inputs, (n, m, *space), **kind)


def sampled(b: Builder, x: str) -> str:
    """GridSample at the corners, in an order that is computed."""
    n, _, *space = b.shapes[x]
    if len(space) != 2 or b.opset < 16 or b.chance(0.3):
        return plain(b, x)
    one, two = b.store(np.float32(1)), b.store(np.float32(2))
    y = b.add("Greater", [b.conv(x, 2), b.store(np.float32(0))], (n, 2, *space))
    y = b.add("Cast", [y], to=TensorProto.FLOAT)
    y = b.add("Sub", [b.add("Mul", [y, two]), one])
    grid = b.transpose(y, 0, 2, 3, 1)
    return b.add("GridSample", [x, grid], b.shapes[x], mode="nearest", align_corners=1)


def by_data(b: Builder, x: str) -> str:
    """Sizes, bounds and positions to which a computed zero is added."""
    n, c, *space = b.shapes[x]
    rank = len(b.shapes[x])
    zero = b.add("Mul", [x, b.store(np.float32(0))])
    zero = b.reshape(b.axes("ReduceSum", zero, range(rank), [1] * rank), (1,))
    zero = b.add("Cast", [zero], to=TensorProto.INT64)

    def hidden(*values: int) -> str:
        return b.add("Add", [zero, b.ints(values)], (len(values),))

    whole, half = (n, c, *space), (n, c // 2, *space)
    op = b.pick(("Slice", "Split", "Pad", "Expand", "Resize", "CenterCropPad", "Gather"))
    since = {"Split": 13, "Resize": 13, "CenterCropPad": 18}
    if b.opset < since.get(op, 11) or (op == "Split" and c % 2):
        op = "Compress"
    if op == "Slice":
        return b.add(op, [x, hidden(0), hidden(c), b.ints([1])], whole)
    if op == "Split":
        first, second = b.many(op, [x, hidden(c // 2, c // 2)], [half, half], axis=1)
        return b.add("Concat", [first, second], whole, axis=1)
    if op == "Pad":
        return b.add(op, [x, hidden(*[0] * (2 * rank))], whole)
    if op == "Expand":
        unit = b.axes("ReduceSum", x, [2], (n, c, 1, *space[1:]))
        return b.add(op, [unit, hidden(*whole)], whole)
    if op == "Resize":
        kind = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return b.add(op, [x, "", "", hidden(*whole)], whole, mode="nearest", **kind)
    if op == "CenterCropPad":
        return b.add(op, [x, hidden(c)], whole, axes=[1])
    if op == "Gather":
        return b.add(op, [x, hidden(*range(c))], whole, axis=1)
    condition = b.add("Cast", [hidden(*[1] * c)], to=TensorProto.BOOL)
    return b.add(op, [x, condition], whole, axis=1)


SELECTING: Mapping[str, Block] = {
    f.__name__: f
    for f in (
        selected_rows,
        gather_nd,
        gather_channels_nd,
        elements,
        place,
        place_rows,
        compress,
        triangle,
        reversed_sequences,
        crop_or_pad,
        cropped_channels,
        regions,
        blocks_to_image,
        unpooled,
        einsum_forms,
        resize_by_sizes,
        deformed,
        sampled,
        by_data,
    )
}

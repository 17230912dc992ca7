"""Blocks of random graphs that join, cut, pick and pad; every one maps (N, C, *S)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import numpy_helper
from properties.blocks import Block, plain
from properties.builder import Builder


def concatenate(b: Builder, x: str) -> str:
    n, _c, *space = b.shapes[x]
    parts = [b.conv(x, b.pick((2, 4, 1))), b.conv(x, 4, k=3)]
    if b.chance():
        parts.append(x)
    total = sum(b.shapes[p][1] for p in parts)
    return b.add("Concat", parts, (n, total, *space), axis=b.pick((1, -1 - len(space))))


def concatenate_space(b: Builder, x: str) -> str:
    """Beside the joined axis, channels are tied."""
    n, _, *space = b.shapes[x]
    parts = [b.conv(x, 4), b.conv(x, 4, k=3)]
    shape = (n, 4, *space[:-1], 2 * space[-1])
    return b.add("Concat", parts, shape, axis=-1)


def split_and_join(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    if c < 4:
        return plain(b, x)
    if c % 2 or b.chance():
        sizes = (c - c // 4, c // 4) if b.chance() else (1, c - 1)
        first, second = b.split(x, 1, sizes)
    else:
        first, second = b.split(x, 1, (c // 2, c // 2), explicit=b.chance())
    if b.chance():
        second = b.conv(second, 4)
    total = b.shapes[first][1] + b.shapes[second][1]
    return b.add("Concat", [second, first], (n, total, *space), axis=1)


def split_and_add(b: Builder, x: str) -> str:
    c = b.shapes[x][1]
    if c % 2:
        return plain(b, x)
    first, second = b.split(x, 1, (c // 2, c // 2), explicit=b.chance())
    return b.add("Add", [first, second])


def split_last(b: Builder, x: str) -> str:
    """Split on a trailing axis: the channels of both pieces stay together."""
    n, c, *space = b.shapes[x]
    if space[-1] % 2:
        return plain(b, x)
    half = space[-1] // 2
    first, second = b.split(x, len(space) + 1, (half, half))
    shape = (n, c, *space)
    return b.add("Concat", [second, first], shape, axis=len(space) + 1)


def sliced(b: Builder, x: str, start: int, end: int, axis: int, step: int, size: int) -> str:
    shape = list(b.shapes[x])
    shape[axis] = size
    inputs = [x, b.ints([start]), b.ints([end]), b.ints([axis]), b.ints([step])]
    if step == 1 and b.chance():
        inputs.pop()
    return b.add("Slice", inputs, shape)


def slices(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    if c < 4:
        return plain(b, x)
    k = b.pick((1, c // 2, c - 2))
    first = sliced(b, x, 0, k, 1, 1, k)
    far = b.pick((c, 2**31 - 1, 2**63 - 1))
    second = sliced(b, x, b.pick((k, k - c)), far, 1, 1, c - k)
    return b.add("Concat", [second, first], (n, c, *space), axis=1)


def strided(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    if c < 4 or c % 2:
        return plain(b, x)
    if b.chance():
        return sliced(b, x, -1, -(2**31), 1, -1, c)
    y, z = sliced(b, x, 0, c, 1, 2, c // 2), sliced(b, x, 1, 2**31 - 1, 1, 2, c // 2)
    return b.add("Concat", [z, y], (n, c, *space), axis=1)


def gather(b: Builder, x: str) -> str:
    _, c, *space = b.shapes[x]
    n = b.shapes[x][0]
    kind = b.pick(("permute", "repeat", "one", "table"))
    if kind == "one":
        index = b.store(np.array(-1, np.int64))
        y = b.add("Gather", [x, index], (n, *space), axis=1)
        y = b.axes("Unsqueeze", y, [1], (n, 1, *space))
        return b.tame(b.add("Add", [x, y]))
    if kind == "table" and c % 2 == 0:
        index = b.ints(np.arange(c).reshape(2, -1))
        y = b.add("Gather", [x, index], (n, 2, c // 2, *space), axis=1)
        return b.reshape(y, (n, -1, *space), (n, c, *space))
    picks = b.rng.permutation(c) if kind == "permute" else np.sort(b.rng.integers(0, c, c + 2))
    return b.add("Gather", [x, b.ints(picks)], (n, len(picks), *space), axis=1)


def gather_one(b: Builder, x: str) -> str:
    """One channel as a list of one index, and channels chosen by data."""
    n, c, *space = b.shapes[x]
    if b.chance():
        y = b.add("Gather", [x, b.ints([c - 1])], (n, 1, *space), axis=1)
        return b.tame(b.add("Add", [x, y]))
    units = [1] * len(space)
    best = b.add("ArgMax", [b.pooled(b.conv(x, c))], (n, 1, *units), axis=1)
    return b.add("Gather", [x, b.reshape(best, (n,))], (n, n, *space), axis=1)


def strided_twice(b: Builder, x: str) -> str:
    """A strided Slice over two axes."""
    n, c, *space = b.shapes[x]
    inputs = [x, b.ints([0, 0]), b.ints([c, 2**31]), b.ints([1, -1]), b.ints([2, 2])]
    return b.add("Slice", inputs, (n, (c + 1) // 2, *space[:-1], (space[-1] + 1) // 2))


def pad_channels(b: Builder, x: str) -> str:
    """Channels repeated at the edge, and a channel cut off by a negative amount."""
    n, c, *space = b.shapes[x]
    mode, more = b.pick((("edge", 1), ("constant", -1)))
    if c < 3:
        return plain(b, x)
    zeros = [0] * len(space)
    return b.add("Pad", [x, b.ints([0, 0, *zeros, 0, more, *zeros])], (n, c + more, *space),
                 mode=mode)  # fmt: skip


def padded_shortcut(b: Builder, x: str) -> str:
    """x, padded by zero channels, plus a wider convolution; amounts as constant or computed."""
    _n, c, *space = b.shapes[x]
    before, after = b.pick(((2, 2), (0, 4), (4, 0)))
    y = b.conv(x, c + before + after, k=3)
    rank = len(space)
    if b.chance(0.4):
        pads = b.ints([0, before, *[0] * rank, 0, after, *[0] * rank])
    elif b.chance():
        zeros = b.ints([0] * rank)
        pads = b.add(
            "Concat",
            [b.ints([0]), b.ints([before]), zeros, b.ints([0]), b.ints([after]), zeros],
            (2 * rank + 4,),
            axis=0,
        )
    else:  # the difference of two channel counts, halved or not
        sizes = [b.add("Gather", [b.add("Shape", [v], (rank + 2,)), b.ints([1])], (1,)) for v in
                 (y, x)]  # fmt: skip
        more = b.add("Sub", sizes, (1,))
        parts = [more, b.ints([0])] if after == 0 else [b.ints([0]), more]
        if after and before:
            parts = [b.add("Div", [more, b.ints([2])], (1,))] * 2
        zeros = b.ints([0] * rank)
        pads = b.add(
            "Concat",
            [b.ints([0]), parts[0], zeros, b.ints([0]), parts[1], zeros],
            (2 * rank + 4,),
            axis=0,
        )
    inputs = [x, pads]
    if b.chance():
        inputs.append(b.store(np.array(0, np.float32)))
    return b.add("Add", [b.add("Pad", inputs, b.shapes[y]), y])


def pad_space(b: Builder, x: str) -> str:
    n, c, *space = b.shapes[x]
    if space[-1] < 2:
        return b.relu(x)
    rank = len(space)
    pads = b.ints([0] * (rank + 1) + [1] + [0] * (rank + 1) + [1])
    mode = b.pick(("constant", "edge", "reflect"))
    wide = b.add("Pad", [x, pads], (n, c, *space[:-1], space[-1] + 2), mode=mode)
    cut = b.ints([0] * (rank + 1) + [-1] + [0] * (rank + 1) + [-1])
    return b.add("Pad", [wide, cut], (n, c, *space))


def zero_channels(b: Builder, x: str) -> str:
    """ConstantOfShape joined to the channels: another form of the padded shortcut."""
    n, c, *space = b.shapes[x]
    target = b.ints([n, 2, *space])
    zeros = b.add("ConstantOfShape", [target], (n, 2, *space))
    y = b.add("Concat", [x, zeros], (n, c + 2, *space), axis=1)
    return b.add("Add", [y, b.conv(x, c + 2)])


def constant_like(b: Builder, x: str) -> str:
    """ConstantOfShape of a Shape, and of literal sizes, added."""
    shape = b.add("Shape", [x], (len(b.shapes[x]),)) if b.chance() else b.ints(b.shapes[x])
    one = numpy_helper.from_array(np.ones(1, np.float32))
    return b.add("Add", [b.add("ConstantOfShape", [shape], b.shapes[x], value=one), x])


CUTTING: Mapping[str, Block] = {
    f.__name__: f
    for f in (
        concatenate,
        concatenate_space,
        split_and_join,
        split_and_add,
        split_last,
        slices,
        strided,
        gather,
        gather_one,
        strided_twice,
        pad_channels,
        padded_shortcut,
        pad_space,
        zero_channels,
        constant_like,
    )
}

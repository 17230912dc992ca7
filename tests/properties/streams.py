"""Random graphs whose streams branch and meet in additions of every form."""

from __future__ import annotations

import onnx
from properties.blocks import batch_norm, excitation
from properties.builder import Builder

OPSETS = (11, 13, 18, 21)


def random_streams(seed: int) -> onnx.ModelProto:
    """A stream that blocks read and add to, with forks, projections and padded shortcuts."""
    b = Builder(seed, OPSETS[seed % len(OPSETS)], batch=1 + seed % 2)
    space = [2] * b.pick((1, 2, 2))
    entry = b.input(b.batch, 4, *space)
    x = entry if b.chance(0.2) else b.conv(entry, b.pick((4, 6)))
    kept = []
    for _ in range(int(b.rng.integers(2, 6))):
        x = b.tame(b.pick((_block, _block, _sum, _wider, _padded, _subtracted, _nested))(b, x))
        if b.chance(0.3):
            kept.append(x)
    for other in kept:  # a stream of an earlier block joins again
        if b.shapes[other] == b.shapes[x] and other != x:
            x = b.tame(b.add("Add", [other, x]))
    b.output(b.conv(x, 3))
    if b.chance(0.2):
        b.output(x)
    return b.model()


def _branch(b: Builder, x: str, m: int) -> str:
    inner = b.relu(b.conv(x, b.pick((3, 4)), k=b.pick((1, 3))))
    y = b.conv(inner, m, k=b.pick((1, 3)))
    if b.chance(0.3):
        y = batch_norm(b, y)
    if b.chance(0.2):
        y = excitation(b, b.tame(y))
    return b.conv(y, m, k=3, group=m) if b.chance(0.2) else b.tame(y)


def _block(b: Builder, x: str) -> str:
    y = b.add(b.pick(("Add", "Sum")), [x, _branch(b, x, b.shapes[x][1])])
    return b.relu(y) if b.chance() else y


def _sum(b: Builder, x: str) -> str:
    m = b.shapes[x][1]
    return b.add("Sum", [_branch(b, x, m), x, _branch(b, x, m)])


def _wider(b: Builder, x: str) -> str:
    m = b.pick((4, 6, 8))
    return b.add("Add", [_branch(b, x, m), b.conv(x, m)])


def _padded(b: Builder, x: str) -> str:
    """Zero channels at one end or at both, as in the shortcuts without weights."""
    n, c, *space = b.shapes[x]
    ends = b.pick(((0, 2), (1, 1), (2, 1)))
    pads = [0, ends[0], *[0] * len(space), 0, ends[1], *[0] * len(space)]
    shape = (n, c + sum(ends), *space)
    return b.add("Add", [b.add("Pad", [x, b.ints(pads)], shape), _branch(b, x, shape[1])])


def _subtracted(b: Builder, x: str) -> str:
    operands = [x, _branch(b, x, b.shapes[x][1])]
    return b.add("Sub", operands if b.chance() else operands[::-1])


def _nested(b: Builder, x: str) -> str:
    """An addition that only another addition reads; a pooled operand stretches over space."""
    m = b.shapes[x][1]
    inner = b.add("Add", [_branch(b, x, m), _branch(b, x, m)])
    y = b.add("Add", [x, inner])
    return b.add("Add", [b.pooled(b.tame(y)), y], b.shapes[y]) if b.chance() else y

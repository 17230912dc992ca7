"""Random ONNX models from a seed: blocks in a chain, or one block between two convolutions."""

from __future__ import annotations

import onnx
from properties.blocks import COMBINING
from properties.bodies import CONTROLLED
from properties.builder import SPACE, Builder
from properties.contrib import CONTRIB
from properties.cuts import CUTTING
from properties.integers import INTEGERS
from properties.moves import MOVING
from properties.selections import SELECTING
from properties.sequences import RECURRING

BLOCKS = {
    **COMBINING,
    **CONTROLLED,
    **CUTTING,
    **MOVING,
    **INTEGERS,
    **CONTRIB,
    **RECURRING,
    **SELECTING,
}
OPSETS = (11, 13, 18, 21)


def one_block(name: str, seed: int) -> onnx.ModelProto:
    """A block fed by a convolution and read by another."""
    return _chain([name], seed)


def random_graph(seed: int, most: int = 4) -> onnx.ModelProto:
    """Two to `most` blocks in a chain, with convolutions in between now and then."""
    b = Builder(seed, 21)
    names = [b.pick(sorted(BLOCKS)) for _ in range(int(b.rng.integers(2, most + 1)))]
    return _chain(names, seed)


def _chain(names: list[str], seed: int) -> onnx.ModelProto:
    b = Builder(seed, OPSETS[seed % len(OPSETS)], batch=1 + seed % 2)
    rank = b.pick((2, 2, 2, 1, 3))
    space = [b.pick(SPACE) for _ in range(rank)] if b.chance(0.3) else [2] * rank
    x = b.conv(b.input(b.batch, 3, *space), b.pick((4, 8, 8, 6, 1)))
    for name in names:
        x = b.tame(BLOCKS[name](b, b.tame(x)))
        if b.chance(0.3):
            x = b.relu(b.conv(x, b.pick((4, 8))))
    b.output(b.conv(x, 3))
    if b.chance(0.2):
        b.output(b.pooled(x))
    return b.model()

"""Random graphs with residual branches, and masks that close some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from properties.blocks import batch_norm
from properties.builder import Builder
from properties.oracle import Mask, random_masks

from prunec.compiler.hypergraph import Hypergraph

Inner = Callable[[Builder, str], str]


def bottleneck(b: Builder, x: str) -> str:
    c = b.shapes[x][1]
    y = b.relu(batch_norm(b, b.conv(x, 4)))
    y = b.relu(batch_norm(b, b.conv(y, 6, k=3)))
    return batch_norm(b, b.conv(b.tame(y), c))


def inverted(b: Builder, x: str) -> str:
    """Expand, depthwise, squeeze and excite, project."""
    c = b.shapes[x][1]
    y = b.tame(b.conv(b.tame(b.conv(x, 8)), 8, k=3, group=8))
    gate = b.conv(b.relu(b.conv(b.tame(b.pooled(y)), 4)), 8)
    gate = b.add("HardSigmoid", [b.tame(gate)], alpha=0.25, beta=0.5)
    return b.conv(b.tame(b.add("Mul", [y, gate])), c)


def pre_activation(b: Builder, x: str) -> str:
    """A norm of the stream that only the branch reads."""
    c = b.shapes[x][1]
    return b.conv(b.relu(b.conv(b.tame(b.relu(batch_norm(b, x))), 6, k=3)), c)


def scaled(b: Builder, x: str) -> str:
    """A factor and an offset for each channel behind the branch."""
    y = b.conv(b.relu(b.conv(x, 6)), b.shapes[x][1])
    return b.tame(b.add("Add", [b.add("Mul", [y, b.vector(x)]), b.vector(x)]))


def perceptron(b: Builder, x: str) -> str:
    """Channels last: MatMul, bias, activation, MatMul, and back."""
    n, c, *space = b.shapes[x]
    rank = len(space)
    y = b.transpose(x, 0, *range(2, 2 + rank), 1)
    y = b.add("MatMul", [y, b.integers(c, 6)], (n, *space, 6))
    y = b.relu(b.add("Add", [b.integers(6), y], b.shapes[y]))
    y = b.add("MatMul", [b.tame(y), b.integers(6, c)], (n, *space, c))
    y = b.add("Add", [y, b.integers(c)], b.shapes[y]) if b.chance() else y
    return b.transpose(y, 0, 1 + rank, *range(1, 1 + rank))


def flattened(b: Builder, x: str) -> str:
    """The same with Gemm, on one row for each position."""
    n, c, *space = b.shapes[x]
    rank, rows = len(space), n * int(np.prod(space))
    y = b.reshape(b.transpose(x, 0, *range(2, 2 + rank), 1), (rows, c))
    y = b.relu(b.add("Gemm", [y, b.integers(6, c), b.integers(6)], (rows, 6), transB=1))
    y = b.add("Gemm", [b.tame(y), b.integers(c, 6), b.integers(c)], (rows, c), transB=1)
    y = b.reshape(y, (n, *space, c))
    return b.transpose(y, 0, 1 + rank, *range(1, 1 + rank))


def pooled_bias(b: Builder, x: str) -> str:
    """A branch that sees the whole picture, with a pool of what it computes."""
    c = b.shapes[x][1]
    y = b.conv(b.relu(b.conv(x, 4)), c)
    y = b.add("MaxPool", [b.tame(y)], kernel_shape=[1] * (len(b.shapes[x]) - 2))
    return b.conv(b.relu(b.conv(b.tame(b.pooled(y)), 4)), c)


def nested(b: Builder, x: str) -> str:
    """A branch with a branch inside."""
    y = b.tame(b.conv(x, 6))
    y = b.add("Add", [y, b.conv(b.relu(b.conv(y, 4)), 6)])
    return b.conv(b.tame(y), b.shapes[x][1])


INNER: Mapping[str, Inner] = {
    f.__name__: f
    for f in (
        bottleneck,
        inverted,
        pre_activation,
        scaled,
        perceptron,
        flattened,
        pooled_bias,
        nested,
    )
}


def joined(b: Builder, x: str, y: str) -> str:
    """The ways in which a branch meets what goes around it."""
    form = b.pick(("Add", "Add", "Sum", "Sub", "twice", "Concat"))
    if form == "Concat":
        n, c, *space = b.shapes[x]
        if b.shapes[y] != b.shapes[x]:  # pooled: it broadcasts
            y = b.add("Add", [y, x], b.shapes[x])
        new = b.relu(b.conv(b.relu(b.conv(y, 4)), 5))
        parts = [x, new] if b.chance() else [new, x]
        return b.conv(b.tame(b.add("Concat", parts, (n, c + 5, *space), axis=1)), c)
    if form == "twice":  # two branches that meet first
        other = b.conv(b.relu(b.conv(x, 4)), b.shapes[x][1])
        return b.add("Add", [x, b.add("Add", [other, y], b.shapes[x])])
    if form == "Sum":
        return b.add("Sum", [y, x, b.conv(x, b.shapes[x][1])], b.shapes[x])
    inputs = [y, x] if form == "Add" and b.chance() else [x, y]
    return b.add(form, inputs, b.shapes[x])


def branch_graph(seed: int) -> onnx.ModelProto:
    """Three blocks in a chain, each with a branch."""
    b = Builder(seed, (11, 13, 17, 18)[seed % 4], batch=1 + seed % 2)
    space = [b.pick((2, 3))] * b.pick((1, 2, 2))
    x = b.conv(b.input(b.batch, 3, *space), b.pick((4, 8)))
    for _ in range(3):
        block = INNER[b.pick(sorted(INNER))]
        x = b.tame(joined(b, x, block(b, b.tame(x))))
        if b.chance(0.3):
            x = b.relu(b.conv(x, b.pick((4, 8))))
    b.output(b.conv(x, 3))
    return b.model()


def closing_masks(graph: Hypergraph, seed: int, count: int) -> list[Mask]:
    """Random masks that close each branch every other time, and in the first mask all of them."""
    rng = np.random.default_rng(seed)
    masks = random_masks(graph, seed, count)
    for number, mask in enumerate(masks):
        for branch in graph.branches:
            if number == 0 or rng.random() < 0.5:
                for e in branch:
                    edge = graph.edges[e]
                    mask[edge.first : edge.first + edge.size] = False
    return masks

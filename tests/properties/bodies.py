"""Blocks of random graphs with control flow: branches, loops, scans; all map (N, C, *S)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper
from properties.builder import Builder

FLOAT = TensorProto.FLOAT


def branched(b: Builder, x: str) -> str:
    """Layers in both branches, under the same names, with weights that others read too."""
    n, _, *space = b.shapes[x]
    m = b.pick((4, 6))
    shared = b.integers(m, b.shapes[x][1], *[1] * len(space))

    def then() -> str:
        y = b.conv_with(b.relu(x), shared)
        return _nested(b, y) if b.chance(0.3) else y

    def other() -> str:
        form = b.pick((0, 1, 2))
        if form == 0:
            return b.conv(x, m)
        return (
            b.conv_with(x, shared) if form == 1 else b.add("Identity", [b.integers(n, m, *space)])
        )

    z = _if(b, _is_positive(b, x), then, other)
    return b.tame(b.add("Add", [z, b.conv_with(x, shared)])) if b.chance() else b.tame(z)


def _nested(b: Builder, y: str) -> str:
    m = b.shapes[y][1]
    return _if(b, _is_positive(b, y), lambda: b.conv(y, m), lambda: b.relu(y))


def uneven(b: Builder, x: str) -> str:
    """Branches whose results have different numbers of channels, which is then read."""
    z = _if(b, _is_positive(b, x), lambda: b.conv(x, 4), lambda: b.conv(x, 6))
    rank = len(b.shapes[x])
    sizes = b.add("Cast", [b.add("Shape", [z], (rank,))], to=FLOAT)
    return b.add("Add", [x, b.add("Gather", [sizes, b.ints([1])], (1,))])


def decided(b: Builder, x: str) -> str:
    """A condition that is a constant, though it reads the size of an axis that may shrink."""
    c = b.shapes[x][1]
    size = b.add("Gather", [b.add("Shape", [x], (4,)), b.store(np.array(1))], ())
    yes = b.add("Equal", [size, b.store(np.array(c + b.pick((0, 1))))], ())
    m = b.pick((4, 6))
    return _if(b, yes, lambda: b.conv(x, m), lambda: b.conv(b.relu(x), m))


def looped(b: Builder, x: str) -> str:
    """States that start as an activation and as a weight; maybe all states side by side."""
    n, _, *space = b.shapes[x]
    m = b.pick((4, 6))
    h = b.tame(b.conv(x, m))
    start = b.integers(n, m, *space)
    count = b.store(np.array(b.pick((1, 2, 3))), "")
    yes = b.store(np.array(True))

    def body(i: str, go: str, h: str, u: str) -> list[str]:
        h = b.tame(b.conv(h, m))
        u = b.tame(b.add("Add", [u, h])) if b.chance() else b.tame(b.conv(u, m))
        return [b.add("Identity", [go]), h, u, b.relu(h)]

    graph = _body(b, body, [(TensorProto.INT64, ()), (TensorProto.BOOL, ())], [h, start])
    trips = int(b.weights[count])
    shapes = [(n, m, *space)] * 2 + [(trips, n, m, *space)]
    z, u, all_of = b.many("Loop", [count, yes, h, start], shapes, body=graph)
    y = b.add("Add", [z, u])
    if b.chance():
        total = b.axes("ReduceSum", all_of, [0], (n, m, *space), keepdims=0)
        y = b.add("Add", [y, total])
    return b.tame(y)


def scanned(b: Builder, x: str) -> str:
    """The channels as a sequence, or the batch."""
    shape = b.shapes[x]
    axis = b.pick((0, 1))
    rest = shape[:axis] + shape[axis + 1 :]
    m = b.pick((4, 6))
    w = b.integers(rest[-1], m)
    state = b.integers(*rest[:-1], m)

    def body(h: str, e: str) -> list[str]:
        new = b.tame(b.add("Add", [b.add("MatMul", [e, w], b.shapes[h]), b.add("Add", [h, h])]))
        return [new, b.relu(new)]

    graph = _body(b, body, [], [state], [rest])
    last, every = b.many(
        "Scan",
        [state, x],
        [b.shapes[state], (shape[axis], *rest[:-1], m)],
        body=graph,
        num_scan_inputs=1,
        scan_input_axes=[axis],
    )
    if axis and b.chance(0.7):
        axes = list(range(len(rest)))
        total = b.axes("ReduceSum", last, axes, (), keepdims=0)
        return b.tame(b.add("Add", [x, total]))
    y = b.add("Add", [every, last], b.shapes[every])
    if axis:
        y = b.transpose(y, 1, 0, *range(2, len(shape)))
    y = b.axes("ReduceSum", y, [-1], (*b.shapes[y][:-1], 1), keepdims=1)
    return b.tame(b.add("Add", [x, y]))


def _is_positive(b: Builder, x: str) -> str:
    axes = list(range(len(b.shapes[x])))
    return b.add("Greater", [b.axes("ReduceSum", x, axes, (), keepdims=0), _zero(b)], ())


def _zero(b: Builder) -> str:
    return b.store(np.array(0, np.float32))


def _if(b: Builder, yes: str, then: Callable[[], str], other: Callable[[], str]) -> str:
    graphs, shapes = [], []
    for build in (then, other):
        graphs.append(_body(b, lambda *_, build=build: [build()], [], []))
        shapes.append(tuple(d.dim_value for d in graphs[-1].output[0].type.tensor_type.shape.dim))
    return b.add("If", [yes], shapes[0], then_branch=graphs[0], else_branch=graphs[1])


def _body(
    b: Builder,
    build: Callable[..., Sequence[str]],
    first: Sequence[tuple[int, tuple[int, ...]]],
    carried: Sequence[str],
    elements: Sequence[tuple[int, ...]] = (),
) -> onnx.GraphProto:
    """What `build` adds, as a graph of its own; the names inside are those of every body."""
    depth = len(b.nodes)
    kinds = [*first, *((FLOAT, b.shapes[name]) for name in carried)]
    kinds += [(FLOAT, shape) for shape in elements]
    inputs = []
    for k, (kind, shape) in enumerate(kinds):
        name = f"body{depth}_in{k}"
        b.shapes[name] = shape
        inputs.append(helper.make_tensor_value_info(name, kind, shape))
    held, b.nodes = b.nodes, list(b.nodes)
    names = list(build(*(value.name for value in inputs)))
    nodes, b.nodes = b.nodes[depth:], held
    own = {name: f"body{depth}_{name}" for node in nodes for name in node.output}
    outputs = [b.shapes[name] for name in names]
    for node in nodes:
        _rename(node, own)
    kinds = [TensorProto.BOOL if first and not k else FLOAT for k in range(len(names))]
    infos = [
        helper.make_tensor_value_info(own[name], kind, shape)
        for name, kind, shape in zip(names, kinds, outputs, strict=True)
    ]
    return helper.make_graph(nodes, f"body{depth}", inputs, infos)


def _rename(node: onnx.NodeProto, own: dict[str, str]) -> None:
    node.input[:] = [own.get(name, name) for name in node.input]
    node.output[:] = [own.get(name, name) for name in node.output]
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _rename(inner, own)


CONTROLLED = {
    "branched": branched,
    "decided": decided,
    "looped": looped,
    "scanned": scanned,
    "uneven": uneven,
}

"""What a graph can do without once some hyperedges are 0: the region that vanishes."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike, NDArray

from prunec.compiler.constants import attribute
from prunec.compiler.folding import FOLDS, NotFoldable, fold
from prunec.compiler.hypergraph import Axis, Hypergraph
from prunec.compiler.literals import constant
from prunec.compiler.ops import op_key
from prunec.compiler.rules.elementwise import ELEMENTWISE, FIRST_INPUT
from prunec.compiler.walk import bodies, initializers, nodes, values

CONTRACTIONS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
SUMS = frozenset({"Add", "Sub", "Sum"})
MOVES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
INDEX_BY_INDEX = frozenset({*SUMS, *ELEMENTWISE, *FIRST_INPUT.split()})
OF_ONE_SHAPE = frozenset({"Max", "Mean", "Min", "Sum"})  # their operands, before opset 8
STRETCHES_SINCE = 8
Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """What vanishes with some hyperedges.

    gone: values with an axis that has no channel left. constants: value -> dense shape of what is
    left of it, which no longer depends on the input; axes along which it is the same are 1. nodes:
    names of the nodes that go, in order. readers: node -> op type, of those that stay and read what
    goes. values: all that going nodes compute, and the stored tensors that only they read. wanted:
    hyperedges that would have to be 0 too. wrong: why the region can't go, empty if it can.
    """

    gone: frozenset[str]
    constants: Mapping[str, Shape]
    nodes: tuple[str, ...]
    readers: Mapping[str, str]
    values: frozenset[str]
    wanted: frozenset[int]
    wrong: str


class Wiring:
    """Who reads and makes every value of a graph, and which inputs it depends on."""

    def __init__(self, graph: ir.Graph, hypergraph: Hypergraph) -> None:
        self.graph, self.hypergraph = graph, hypergraph
        self.nodes = list(graph)
        self.outputs = {v.name for v in graph.outputs}
        self.stored = hypergraph.trace.constants
        self.tensors = initializers(graph)
        self.readers: dict[str, list[int]] = defaultdict(list)
        self.maker: dict[str, int] = {}
        self.enclosed: set[str] = set()  # values of bodies
        inputs = [v.name or "" for v in graph.inputs if v.name not in self.stored]
        self.depends = {name: 1 << k for k, name in enumerate(inputs)}  # sets of inputs, as bits
        self.reads = [tuple(inputs_of(node)) for node in self.nodes]
        self.makes = [tuple(v.name for v in node.outputs if v.name) for node in self.nodes]
        for number, node in enumerate(self.nodes):
            self._add(number, node)
        # Channels of an axis that a hyperedge takes with it, and hyperedges of a value.
        self.filling: list[dict[Axis, int]] = []
        self.edges_of: dict[str, set[int]] = defaultdict(set)
        for e, edge in enumerate(hypergraph.edges):
            own = {(m.value, m.axis): m.multiplicity * edge.size for m in edge.members}
            self.filling.append(own)
            for value, _ in own:
                self.edges_of[value].add(e)

    def _add(self, number: int, node: ir.Node) -> None:
        depends = 0
        for name in self.reads[number]:
            self.readers[name].append(number)
            depends |= self.depends.get(name, 0)
        for name in self.makes[number]:
            self.maker[name] = number
            self.depends[name] = depends
        for body in bodies(node):
            self.enclosed.update(v.name or "" for v in values(body))

    def shape(self, name: str) -> Shape:
        """Dense sizes. Raises KeyError where they are not known."""
        return tuple(len(labels) for labels in self.hypergraph.trace.labels[name])

    def emptied(self, edges: Iterable[int]) -> dict[str, int]:
        """Value -> an axis of it that has no channel left without these hyperedges."""
        taken: dict[Axis, int] = defaultdict(int)
        for e in edges:
            for axis, count in self.filling[e].items():
                taken[axis] += count
        axes = self.hypergraph.axes
        return {axis[0]: axis[1] for axis, count in taken.items() if count == len(axes[axis])}

    def fillers(self, axis: Axis) -> frozenset[int]:
        """The hyperedges that an axis consists of, if there is nothing else."""
        edges = frozenset(e for e in self.edges_of[axis[0]] if axis in self.filling[e])
        total = sum(self.filling[e][axis] for e in edges)
        groups = self.hypergraph.axes.get(axis)
        return edges if groups is not None and total == len(groups) else frozenset()

    def contents(self, name: str) -> Array | None:
        """A stored tensor as it is now, or what foldable nodes make of such; None if unknown."""
        tensor = self.tensors.get(name)
        if tensor is not None:
            return None if tensor.const_value is None else tensor.const_value.numpy()
        if name not in self.maker or name not in self.stored:
            return None
        node = self.nodes[self.maker[name]]
        if node.op_type == "Constant":
            return constant(node)
        inputs = [None if v is None else self.contents(v.name or "") for v in node.inputs]
        if any(v is not None and a is None for v, a in zip(node.inputs, inputs, strict=True)):
            return None
        try:
            return fold(node, inputs)
        except NotFoldable:
            return None

    def folded(self, node: ir.Node, contents: Callable[[str], Array]) -> Array:
        """What a node makes of constants, small as they are. Raises NotFoldable, KeyError."""
        if op_key(node) not in MOVES:
            return fold(node, [None if v is None else contents(v.name or "") for v in node.inputs])
        source = node.inputs[0]
        name = "" if source is None else source.name or ""
        small = contents(name)
        after = self.shape(node.outputs[0].name or "")
        return small.reshape(moved(small.shape, self.shape(name), after))

    def region(self, edges: Collection[int]) -> Region:
        """What vanishes when these hyperedges are 0. Time grows with the region, not the graph."""
        return _Search(self, edges).run()


def inputs_of(node: ir.Node) -> Iterator[str]:
    """Names that a node reads, those that its bodies read or pass on included."""
    yield from dict.fromkeys(v.name for v in node.inputs if v is not None and v.name)
    for body in bodies(node):
        for inner in nodes(body):
            yield from (v.name for v in inner.inputs if v is not None and v.name)
        yield from (v.name for v in body.outputs if v.name)


class _Search:
    """State of one search; lives inside `Wiring.region`."""

    def __init__(self, wiring: Wiring, edges: Collection[int]) -> None:
        self.wiring, self.edges = wiring, edges
        self.gone = wiring.emptied(edges)
        self.constants: dict[str, Shape] = {}
        self.depends: dict[str, int] = {}  # where fewer than in the dense graph
        self.going: set[int] = set()
        self.staying: dict[int, str] = {}  # readers of what goes -> why they can't, or ""
        self.wanted: set[int] = set()
        self.wrong = ""
        self.queue: list[int] = []

    def run(self) -> Region:
        """Forward from what is gone, then back to what nobody reads any more."""
        w = self.wiring
        if any(value in w.enclosed for e in self.edges for value, _ in w.filling[e]):
            self.wrong = "it runs through the body of a node of control flow"
        for name in self.gone:
            self._push([*w.readers[name], *([w.maker[name]] if name in w.maker else [])])
        last = -1
        while self.queue and not self.wrong:
            number = heapq.heappop(self.queue)
            if number != last:
                self._visit(number)
            last = number
        if not self.wrong:
            self._unread()
            blocked = [why for n, why in self.staying.items() if why and n not in self.going]
            self.wrong = next(iter(blocked), "")
        return self._region()

    def _region(self) -> Region:
        w = self.wiring
        made = {name for n in self.going for name in w.makes[n]}
        read = {name for n in self.going for name in w.reads[n]} - made - w.outputs
        alone = {
            name for name in read if name in w.stored and self.going.issuperset(w.readers[name])
        }
        return Region(
            gone=frozenset(self.gone),
            constants=self.constants,
            nodes=tuple(w.nodes[n].name or "" for n in sorted(self.going)),
            readers={
                w.nodes[n].name or "": op_key(w.nodes[n])
                for n in sorted(self.staying)
                if n not in self.going
            },
            values=frozenset(made | alone),
            wanted=frozenset(self.wanted - set(self.edges)),
            wrong=self.wrong,
        )

    def _push(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            heapq.heappush(self.queue, number)

    def _visit(self, number: int) -> None:
        """Decide on one node: it goes, it stays as it is, or it reads what it can't do without."""
        node = self.wiring.nodes[number]
        used = [name for name in self.wiring.makes[number] if self._is_used(name)]
        names = self.wiring.reads[number]
        if used and all(name in self.gone for name in used):
            self.going.add(number)
        elif any(name in self.gone for name in used):
            self._stay(number, f"{node.op_type} {node.name} makes other channels too")
        elif any(name in self.gone for name in names):
            self._over_nothing(number, node, used)
        elif any(name in self.constants for name in names):
            self._with_constants(number, node, used)
        else:
            self._depend(number)

    def _is_used(self, name: str) -> bool:
        return bool(self.wiring.readers[name]) or name in self.wiring.outputs

    def _go(self, number: int, name: str, shape: Shape) -> None:
        """A node whose result is constant."""
        self.going.add(number)
        self.constants[name] = shape
        if name in self.wiring.outputs:
            self.wrong = f"output {name} would be constant"
        self._push(self.wiring.readers[name])

    def _stay(self, number: int, why: str = "") -> None:
        self.staying[number] = why
        self._depend(number)

    def _depend(self, number: int) -> None:
        """Note which graph inputs the results of a node that stays depend on now."""
        w, depends = self.wiring, 0
        for name in self.wiring.reads[number]:
            if name not in self.gone and name not in self.constants:
                depends |= self.depends.get(name, w.depends.get(name, 0))
        for name in w.makes[number]:
            if depends != self.depends.get(name, w.depends[name]):
                self.depends[name] = depends
                self._push(w.readers[name])
                if name in w.outputs:
                    self.wrong = f"output {name} would not depend on every input that it does now"

    def _over_nothing(self, number: int, node: ir.Node, used: list[str]) -> None:
        """A node that sums over no channel, or joins other channels to none."""
        w = self.wiring
        reads = [v.name or "" for v in node.inputs if v is not None]
        if node.op_type in CONTRACTIONS and not node.domain and len(used) == 1:
            bias = node.inputs[2] if len(node.inputs) > 2 else None
            shape = None if bias is None else w.contents(bias.name or "")
            if bias is None or shape is not None:
                self._go(number, used[0], empty_sum(node, shape, len(w.shape(used[0]))).shape)
                return
        live = [r for r in reads if r not in self.gone and r not in w.stored]
        if op_key(node) == "Concat" and live and not any(r in self.constants for r in reads):
            self._stay(number)
            return
        self._stay(number, f"{node.op_type} {node.name} reads channels of which none is left")

    def _with_constants(self, number: int, node: ir.Node, used: list[str]) -> None:
        """A node of which some inputs no longer depend on the data."""
        w = self.wiring
        reads = [None if v is None else v.name or "" for v in node.inputs]
        live = [r for r in reads if r and r not in self.constants and r not in w.stored]
        why = f"{node.op_type} {node.name} reads what no longer depends on the data"
        try:
            if live and op_key(node) not in MOVES:
                fits = len(used) == 1 and self._stretches(node) and self._covers(live, used)
                self._stay(number, "" if fits else why)
            elif len(used) == 1 and (op_key(node) in FOLDS or op_key(node) in MOVES):
                self._go(number, used[0], self.wiring.folded(node, self._example).shape)
            else:
                self._want(node)
                self._stay(number, why)
        except (NotFoldable, KeyError):
            self._stay(number, why)

    def _stretches(self, node: ir.Node) -> bool:
        """Whether an operand may have size 1 along axes where the others are longer."""
        old = self.wiring.graph.opset_imports.get("", 1) < STRETCHES_SINCE
        return op_key(node) in INDEX_BY_INDEX and not (old and op_key(node) in OF_ONE_SHAPE)

    def _covers(self, live: list[str], used: list[str]) -> bool:
        """Whether the operands that stay have the shape of the result by themselves."""
        shapes = [self.wiring.shape(name) for name in live]
        return np.broadcast_shapes(*shapes) == self.wiring.shape(used[0])

    def _example(self, name: str) -> Array:
        """Something of the shape that the contents will have; integers are needed as they are."""
        if name in self.constants:
            return np.ones(self.constants[name], np.float32)
        known = self.wiring.contents(name)
        if known is None:
            raise NotFoldable(name)
        return known

    def _want(self, node: ir.Node) -> None:
        """A sum over constants goes if its channels go; they may be hyperedges of their own."""
        if node.op_type not in CONTRACTIONS or node.domain:
            return
        for value, axis in zip(node.inputs[:2], summed_axes(node), strict=False):
            name = "" if value is None else value.name or ""
            if name in self.constants:
                rank = len(self.wiring.shape(name))
                self.wanted |= self.wiring.fillers((name, axis % rank))

    def _unread(self) -> None:
        """Nodes that only going nodes read go too."""
        w = self.wiring
        queue = [w.maker[name] for n in self.going for name in w.reads[n] if name in w.maker]
        while queue:
            number = queue.pop()
            outputs = w.makes[number]
            if number in self.going or any(name in w.outputs for name in outputs):
                continue
            if all(self.going.issuperset(w.readers[name]) for name in outputs):
                self.going.add(number)
                queue += [w.maker[name] for name in w.reads[number] if name in w.maker]


def moved(small: Shape, before: Shape, after: Shape) -> Shape:
    """The small shape of a constant behind a reshape from shape `before` to `after`.

    Every axis along which it differs must come out whole: as long, with as many elements in front.

    >>> moved((1, 6, 1, 1), (2, 6, 4, 4), (2, 6, 16))
    (1, 6, 1)
    """
    out = [1] * len(after)
    for axis, size in enumerate(small):
        if size > 1:
            front = prod(before[:axis])
            places = [
                k for k, n in enumerate(after) if n == before[axis] and prod(after[:k]) == front
            ]
            if not places:
                raise NotFoldable("a reshape of what differs along a merged axis")
            out[places[0]] = size
    return tuple(out)


def summed_axes(node: ir.Node) -> tuple[int, int]:
    """The axis of the first input, and of the second, that a contraction sums over."""
    if node.op_type == "MatMul":
        return -1, -2
    if node.op_type == "Gemm":
        return (0 if attribute(node, "transA", 0) else 1), (
            1 if attribute(node, "transB", 0) else 0
        )
    return 1, (0 if node.op_type == "ConvTranspose" else 1)


def empty_sum(node: ir.Node, bias: Array | None, rank: int, dtype: DTypeLike = np.float32) -> Array:
    """What a contraction over no channel gives: its bias, with size 1 where it is all the same.

    rank: of the result. Without a bias it is zeros of type `dtype`.
    """
    if bias is None:
        return np.zeros((1,) * rank, dtype)
    if node.op_type == "Gemm":
        scaled = bias * np.asarray(attribute(node, "beta", 1.0)).astype(bias.dtype)
        return np.asarray(scaled).reshape((1,) * (rank - bias.ndim) + bias.shape)
    return bias.reshape(1, -1, *[1] * (rank - 2))

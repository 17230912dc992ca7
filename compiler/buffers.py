"""What a run keeps in memory: steps that read and write buffers, as onnxruntime's CPU provider."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from prunec.compiler.control import Branches, Iteration, Scanned, control_of, is_control
from prunec.compiler.facts import Facts
from prunec.compiler.labels import AxisLabels
from prunec.compiler.ops import op_key
from prunec.compiler.walk import bodies, graphs, nodes

# Outputs that are their first input under another shape or name: no kernel copies them.
VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
# Kernels that may write over an input of the same size (`MayInplace` of their definitions).
IN_PLACE = frozenset((
    "Abs", "Add", "And", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Floor",
    "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Mean", "Min", "Mul", "Neg", "Not",
    "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin",
    "Softmax", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Xor",
))  # fmt: skip
CONVOLUTIONS = frozenset({"Conv"})
SHAPES = frozenset({"Shape", "Size"})  # they need no contents
NORM = "BatchNormalization"

Sizes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Step:
    """Nodes that run as one kernel: mostly one, or a convolution with what is added to it.

    nodes: names, in order. reads, writes: buffers, each once; a view is the buffer that it shows.
    after: numbers of the steps of the same run whose results it needs. reuses: (read, write)
    pairs: the write takes the place of the read where nothing reads that later. held: writes that
    are already there while the bodies run. bodies: of control flow.
    """

    nodes: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    after: tuple[int, ...] = ()
    reuses: tuple[tuple[str, str], ...] = ()
    held: tuple[str, ...] = ()
    bodies: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """The steps of a graph in the order of the file. stays: buffers that are never given back:
    its outputs, and what a loop carries from one iteration to the next (`carried`).
    """

    steps: tuple[Step, ...]
    stays: frozenset[str]
    carried: tuple[str, ...] = ()


def buffer_bytes(
    graph: ir.Graph, labels: Mapping[str, AxisLabels], constants: frozenset[str], facts: Facts
) -> dict[str, int]:
    """Size of every value that takes memory because of the graph's inputs, in graph order.

    Not among them: the inputs themselves, which belong to the caller; stored tensors and what is
    computed from them alone; shape arithmetic, whose contents are known beforehand; values whose
    shape or type is not known; what nobody reads. labels: of every value that was interpreted.
    """
    sizes: dict[str, int] = {}
    dead = dead_nodes(graph)
    entries = (v for body in list(graphs(graph))[1:] for v in body.inputs)
    computed = (value for node in nodes(graph) if node not in dead for value in node.outputs)
    for value in (*computed, *entries):
        name = value.name or ""
        if name in constants or name in facts.constants or name not in labels:
            continue
        dtype = facts.dtypes.get(name)
        if dtype is not None:
            size = dtype.itemsize
            for own in labels[name]:
                size *= len(own)
            sizes[name] = size
    return sizes


def dead_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Nodes that no output depends on, in bodies too: a pruned model has none."""
    dead: set[ir.Node] = set()
    for node in reversed(graph):
        for value in node.outputs:
            if value.is_graph_output() or any(user not in dead for user, _ in value.uses()):
                for body in bodies(node):
                    dead |= dead_nodes(body)
                break
        else:
            dead.add(node)
            dead.update(inner for body in bodies(node) for inner in nodes(body))
    return dead


def computed_times(
    graph: ir.Graph, facts: Facts, opset: int, times: int = 1
) -> Iterator[tuple[str, int]]:
    """Values that nodes compute anew, and how often: views are none; bodies as for `flops`."""
    for node in graph:
        for body, count in parts(node, facts, opset):
            if count:
                yield from computed_times(body, facts, opset, times * count)
        if op_key(node) not in VIEWS:
            yield from ((value.name, times) for value in node.outputs if value.name)


def parts(node: ir.Node, facts: Facts, opset: int) -> Iterator[tuple[ir.Graph, int]]:
    """The bodies of a node of control flow, and how often each counts.

    Both branches of an If once, unless a constant decides; the body of a loop once an iteration,
    or once where the data decides how many there are.
    """
    if not is_control(node):
        return
    match control_of(node, opset, facts.certain()):
        case Branches(branches, taken):
            yield from ((b, int(taken is None or taken is b)) for b in branches)
        case Iteration() as loop:
            trips = loop.trips(facts.certain())
            yield loop.body, 1 if trips is None else trips
        case Scanned() as scan:
            trips = scan.trips(facts.shapes)
            yield scan.body, 1 if trips is None else trips


def run_of(graph: ir.Graph, sizes: Sizes, facts: Facts, opset: int) -> Run:
    """The steps of a graph, each where its last node stands in the file.

    sizes: bytes of every buffer of the dense model; what is not in it takes no memory. They decide
    what is the same size, so that pruning does not change what shares memory.
    """
    return _Reader(sizes, facts, opset, dead_nodes(graph)).run(graph)


class _Reader:
    """State of one reading; lives inside `run_of`."""

    def __init__(self, sizes: Sizes, facts: Facts, opset: int, dead: set[ir.Node]) -> None:
        self.sizes, self.facts, self.opset, self.dead = sizes, facts, opset, dead
        self.shown: dict[str, str] = {}  # value -> the buffer that it is, or is a view of

    def run(self, graph: ir.Graph, carried: Sequence[str] = ()) -> Run:
        """The run of a graph or body."""
        self.shown.update((name, name) for name in carried)
        fused = self._fused(graph)
        inside = {id(node) for chain in fused.values() for node in chain[:-1]}
        maker: dict[int, int] = {}  # id() of a value -> the number of its step
        steps: list[Step] = []
        for node in graph:
            if id(node) not in inside:
                chain = fused.get(id(node), (node,))
                steps.append(self._step(chain, maker))
                maker.update((id(v), len(steps) - 1) for v in node.outputs)
        outputs = (self.shown.get(v.name or "") for v in graph.outputs)
        stays = frozenset([*carried, *(name for name in outputs if name is not None)])
        return Run(tuple(steps), stays, tuple(carried))

    def _fused(self, graph: ir.Graph) -> dict[int, tuple[ir.Node, ...]]:
        """id() of the last node of each chain that onnxruntime runs as one kernel -> the chain.

        An addition runs inside the convolution that makes one of its operands, the first that can;
        ``x * sigmoid(x)`` is one kernel.
        """
        found: dict[int, tuple[ir.Node, ...]] = {}
        taken: set[int] = set()
        for node in graph:
            if node.op_type not in ("Add", "Mul") or node.domain or len(node.inputs) != 2:
                continue
            first, other = node.inputs
            if first is None or other is None or first is other or not self._alike(node):
                continue
            for value, rest in ((first, other), (other, first)):
                start = self._summed(value, node) if node.op_type == "Add" else ()
                start = start or self._gate(value, rest, node)
                if start and id(start[0]) not in taken:
                    found[id(node)] = (*start, node)
                    taken.add(id(start[0]))
                    break
        return found

    def _summed(self, value: ir.Value | None, reader: ir.Node) -> tuple[ir.Node, ...]:
        """The convolution, with its norm, that makes a value for this reader alone, if one does."""
        chain: tuple[ir.Node, ...] = ()
        while value is not None:
            node = value.producer()
            if node is None or node.graph is not reader.graph or not self._only(value, reader):
                return ()
            if op_key(node) in CONVOLUTIONS:
                return (node, *chain)
            if op_key(node) != NORM or chain:
                return ()
            chain, value, reader = (node,), node.inputs[0], node
        return ()

    def _gate(self, value: ir.Value, factor: ir.Value, product: ir.Node) -> tuple[ir.Node, ...]:
        """The sigmoid of `factor` that makes `value` for this product alone, if there is one."""
        node = value.producer()
        if node is None or product.op_type != "Mul" or op_key(node) != "Sigmoid":
            return ()
        alone = node.inputs[0] is factor and self._only(value, product)
        return (node,) if alone and node.graph is product.graph else ()

    def _alike(self, node: ir.Node) -> bool:
        """Whether inputs and output are buffers of one size."""
        names = [v.name for v in (*node.inputs, *node.outputs) if v is not None and v.name]
        return len({self.sizes.get(name) for name in names} - {None}) == 1 and all(
            name in self.sizes for name in names
        )

    def _step(self, chain: tuple[ir.Node, ...], maker: Mapping[int, int]) -> Step:
        last = chain[-1]
        op, shown = op_key(last), self.shown
        made = {id(v) for node in chain for v in node.outputs}
        values = [v for node in chain for v in node.inputs if v is not None and id(v) not in made]
        inner: tuple[Run, ...] = ()
        held: tuple[str, ...] = ()
        if is_control(last):
            inner, held = self._bodies(last)
            values += [v for body in bodies(last) for v in _read_inside(body)]
        names = [v.name or "" for v in values] if self._reads(last) else []
        reads = dict.fromkeys([shown[name] for name in names if name in shown])
        reuses = tuple(self._reuses(op, chain, made)) if reads else ()
        writes = [v.name for v in last.outputs if v.name and v.name in self.sizes]
        if op in VIEWS:
            writes = []
            self._show(last)
        for name in writes:
            shown[name] = name
        return Step(
            nodes=tuple([node.name or "" for node in chain]),
            reads=tuple(reads),
            writes=tuple(writes),
            after=tuple(sorted({maker[id(v)] for v in values if id(v) in maker})),
            reuses=reuses,
            held=held,
            bodies=inner,
        )

    def _reads(self, node: ir.Node) -> bool:
        """Whether a node needs the contents of its inputs, and anyone what it computes."""
        return node.op_type not in SHAPES and node not in self.dead

    def _only(self, value: ir.Value, reader: ir.Node) -> bool:
        """Whether a value has one reader."""
        readers = [node for node, _ in value.uses() if self._reads(node)]
        return readers == [reader] and not value.is_graph_output()

    def _show(self, view: ir.Node) -> None:
        source = view.inputs[0] if view.inputs else None
        buffer = self.shown.get(source.name or "") if source is not None else None
        if buffer is not None and view.outputs[0].name:
            self.shown[view.outputs[0].name] = buffer

    def _reuses(
        self, op: str, chain: tuple[ir.Node, ...], made: set[int]
    ) -> Iterator[tuple[str, str]]:
        """Pairs of one size, in the order in which they are tried."""
        last = chain[-1]
        source = last.inputs[0]
        behind = source.producer() if op == NORM and source is not None else None
        folded = behind is not None and op_key(behind) in CONVOLUTIONS
        write = last.outputs[0].name or ""
        summed = len(chain) > 1 and op == "Add"
        alone = len(chain) == 1 and (op in IN_PLACE or folded)
        if write not in self.sizes or not (summed or alone):
            return
        for value in last.inputs[:1] if folded else last.inputs:
            read = self.shown.get(value.name or "") if value is not None else None
            if read is None or id(value) in made or self.sizes[read] != self.sizes[write]:
                continue
            yield read, write

    def _bodies(self, node: ir.Node) -> tuple[tuple[Run, ...], tuple[str, ...]]:
        """The runs of its bodies, and which outputs are there meanwhile: what is stacked."""
        control = control_of(node, self.opset, self.facts.certain())
        live = [body for body, times in parts(node, self.facts, self.opset) if times]
        carried: list[str] = []
        held: list[str] = []
        match control:
            case Iteration() as loop:
                held = [v.name or "" for v in loop.stacked(node)]
                carried = [inner.name or "" for _, inner, _, _ in loop.carried]
            case Scanned() as scan:
                held = [v.name or "" for v, _ in scan.stacked(node)]
                carried = [inner.name or "" for _, inner, _, _ in scan.carried]
        own = [name for name in carried if name in self.sizes]
        there = tuple(name for name in held if name in self.sizes)
        return tuple(self.run(body, own) for body in live), there


def _read_inside(body: ir.Graph) -> Iterator[ir.Value]:
    """What a body and the bodies in it read or pass on."""
    for graph in graphs(body):
        for node in graph:
            yield from (v for v in node.inputs if v is not None)
        yield from graph.outputs

"""Places: which values of a model become integers, which weights, along which axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from prunec.compiler.facts import Facts
from prunec.compiler.literals import literal
from prunec.compiler.ops import op_key
from prunec.compiler.walk import bodies
from prunec.passes.quantize.ends import ends, read_by_layers
from prunec.passes.quantize.ops import CLAMPS, RECURRENT, ROWS, Kind, Row
from prunec.passes.quantize.recipe import Recipe

FLOATS = (np.dtype(np.float32), np.dtype(np.float16))
SINGLE = np.dtype(np.float32)
BRAIN = ir.DataType.BFLOAT16.numpy()
ARRIVED = "it arrived quantised"
INTEGER_OPS = frozenset({"DequantizeLinear", "QuantizeLinear"})
Edges = Mapping[str, Sequence[str]]
NO_EDGES: Edges = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class WeightPlace:
    """A stored weight that becomes integers.

    axis: of its outputs, along which it has a scale each; None: one for the whole tensor. input:
    the axis of its inputs, along which blocks run. bits, block: of the recipe, for this weight.
    nodes: who multiplies with it.
    """

    name: str
    axis: int | None
    input: int
    bits: int
    block: int
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodePlace:
    """A node that works on integers.

    op: its key. inputs: positions of what it reads as integers. weight, bias: names of stored
    tensors, or "". output: the value that holds its result after a fused Relu or Clip; "" where it
    stays float. fused: name of that Relu or Clip, or "". adds: the node that adds the bias, where
    it is another one: the Add behind a MatMul, which onnxruntime makes a Gemm of.
    """

    node: str
    op: str
    inputs: tuple[int, ...]
    weight: str = ""
    bias: str = ""
    output: str = ""
    fused: str = ""
    adds: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """What a recipe makes of a model.

    nodes: in graph order. weights: by name. activations: value -> bits, of those with a range of
    their own. same: value -> the value in `activations` whose integers it takes unchanged. floats:
    node -> why it stays float, of nodes whose operator could work on integers.
    """

    nodes: tuple[NodePlace, ...]
    weights: Mapping[str, WeightPlace]
    activations: Mapping[str, int]
    same: Mapping[str, str] = field(default_factory=dict)
    floats: Mapping[str, str] = field(default_factory=dict)


def places(model: ir.Model, facts: Facts, recipe: Recipe, edges: Edges = NO_EDGES) -> Places:
    """Where a recipe quantises a model; norms are folded before (`fold_norms`).

    facts: shapes and types. edges: value -> names of the hyperedges through it, each with
    HYPEREDGE before it, which patterns of the recipe may name. Integers start where a layer with a
    stored weight reads them, and go on through the operators that onnxruntime computes in integers
    for as long as what they read is such a layer's result; a value that only others read stays
    float. Main graph only.
    """
    return _Survey(model, facts, recipe, edges).run()


@dataclass(slots=True, eq=False)
class _Survey:
    """One walk over the graph, then one back; lives inside `places`."""

    model: ir.Model
    facts: Facts
    recipe: Recipe
    edges: Edges
    found: dict[str, NodePlace] = field(default_factory=dict)
    weights: dict[str, WeightPlace] = field(default_factory=dict)
    floats: dict[str, str] = field(default_factory=dict)
    root: dict[str, str] = field(default_factory=dict)  # value made of integers -> whose they are
    wanted: dict[str, int | None] = field(default_factory=dict)  # value -> bits that a rule asks
    fused: set[str] = field(default_factory=set)
    read: frozenset[str] = frozenset()  # values that a layer reads, at first or second hand

    def run(self) -> Places:
        graph = list(self.model.graph)
        layers = [n for n in graph if self._multiplies(n)]
        recurrent = [n for n in graph if op_key(n) in RECURRENT]
        first, last = ends(self.model.graph, [*layers, *recurrent])
        self.read = read_by_layers(self.model.graph, layers)
        skipped = [("first layer", first)] * (not self.recipe.first)
        skipped += [("last layer", last)] * (not self.recipe.last)
        for node in graph:
            row = ROWS.get(op_key(node))
            if row is not None:
                why = next((w for w, names in skipped if node.name in names), "")
                self._visit(node, row, why)
            elif op_key(node) in RECURRENT:
                self.floats[str(node.name)] = "recurrent layers have no integer kernel"
        return self._settled(graph)

    def _multiplies(self, node: ir.Node) -> bool:
        row = ROWS.get(op_key(node))
        return row is not None and row.kind is Kind.MULTIPLIES and self._stored(node, row)

    def _stored(self, node: ir.Node, row: Row) -> bool:
        weight = self._input(node, row.weight)
        return weight is not None and weight.is_initializer() and not weight.is_graph_input()

    @staticmethod
    def _input(node: ir.Node, position: int | None) -> ir.Value | None:
        inside = position is not None and position < len(node.inputs)
        return node.inputs[position] if inside and position is not None else None

    def _visit(self, node: ir.Node, row: Row, why: str) -> None:
        """Enter a node, or the reason why it stays float."""
        kind = self.facts.dtypes.get(str(node.outputs[0].name))
        floats = kind is None or kind.kind == "f" or kind == BRAIN
        if str(node.name) in self.fused or not floats:
            return  # part of the layer before it, or arithmetic of shapes
        visit: Callable[[ir.Node, Row], str] = {
            Kind.MULTIPLIES: self._layer,
            Kind.FOLLOWS: self._follower,
            Kind.MOVES: self._mover,
        }[row.kind]
        names = self._names(node, row)
        pattern = self.recipe.excludes(names)
        rule = self.recipe.rule_for(names)
        if pattern:
            why = f"excluded by {pattern!r}"
        elif rule is not None and rule.skip:
            why = f"rule {rule.pattern!r} says so"
        why = why or row.refuses(node) or self._type(node) or visit(node, row)
        if why and (row.kind is not Kind.MOVES):
            self.floats[str(node.name)] = why

    def _names(self, node: ir.Node, row: Row) -> list[str]:
        """What a pattern may name: the node, its weight, hyperedges through its weight."""
        weight = self._input(node, row.weight)
        names = [str(node.name)]
        if weight is not None and weight.is_initializer():
            names += [str(weight.name), *self.edges.get(str(weight.name), ())]
        return names

    def _type(self, node: ir.Node) -> str:
        value = node.inputs[0] if node.inputs else None
        kind = None if value is None else self.facts.dtypes.get(str(value.name))
        # The scales of onnxruntime's integer kernels are float32; float16 ones stop it at load.
        allowed = FLOATS if self.recipe.activation_bits is None else (SINGLE,)
        if kind is not None and kind not in allowed:
            return f"it computes in {kind}"
        made = value.producer() if value is not None else None
        if made is not None and made.op_type in INTEGER_OPS:
            return ARRIVED
        return ""

    def _layer(self, node: ir.Node, row: Row) -> str:
        """A node with a stored weight; starts integers."""
        weight = self._input(node, row.weight)
        if weight is None or not self._stored(node, row):
            return self._product(node)
        array_shape = tuple(weight.shape.numpy()) if weight.shape is not None else ()
        dtype = weight.dtype.numpy() if weight.dtype is not None else None
        if dtype not in FLOATS:
            return f"its weight is stored as {dtype}"
        if len(array_shape) < 2 or 0 in array_shape:
            return "its weight is no matrix"
        self._enter_weight(node, row, str(weight.name), array_shape)
        adds = self._adds(node, array_shape)
        bias = self._input(node, row.bias) if adds is None else adds.inputs[_stored_input(adds)]
        stored = bias is not None and bias.is_initializer() and not bias.is_graph_input()
        if self.recipe.activation_bits is None:
            self.found[str(node.name)] = NodePlace(
                str(node.name), op_key(node), (), weight.name or ""
            )
            return ""
        output, fused = self._output(node)
        inputs = row.data or ()
        self._want(node, row)
        self.found[str(node.name)] = NodePlace(
            str(node.name),
            op_key(node),
            inputs,
            str(weight.name),
            str(bias.name) if bias is not None and stored else "",
            output if row.output else "",
            fused if row.output else "",
            "" if adds is None else str(adds.name),
        )
        if row.output or self._is_map(node):
            self.root[output] = output
        return ""

    def _adds(self, node: ir.Node, shape: tuple[int, ...]) -> ir.Node | None:
        """The Add that alone reads a MatMul and adds a stored bias, or None."""
        uses = list(node.outputs[0].uses())
        if op_key(node) != "MatMul" or len(uses) != 1 or node.outputs[0].is_graph_output():
            return None
        add, position = uses[0]
        other = add.inputs[1 - position] if op_key(add) == "Add" else None
        fits = other is not None and other.is_initializer() and not other.is_graph_input()
        if not fits or other is None or other.shape is None:
            return None
        if tuple(other.shape.numpy()) != shape[-1:] or add.graph is not node.graph:
            return None
        self.fused.add(str(add.name))
        return add

    def _is_map(self, node: ir.Node) -> bool:
        return op_key(node) == "ConvTranspose"

    def _enter_weight(self, node: ir.Node, row: Row, name: str, shape: tuple[int, ...]) -> None:
        rule = self.recipe.rule_for(self._names(node, row))
        bits = rule.weights if rule is not None and rule.weights is not None else self.recipe.bits
        axis = row.axis(node, len(shape)) if self.recipe.channels else None
        reads = len(shape) - 2 if op_key(node) == "MatMul" else 1 - (row.axis(node, 2) or 0)
        known = self.weights.get(name)
        if known is not None:  # tied: its readers must agree
            axis = axis if known.axis == axis else None
            bits = max(bits, known.bits)
        nodes = (*(known.nodes if known else ()), str(node.name))
        # Of a kernel every position would have scales of its own, more than its integers take.
        blocks = axis is not None and self.recipe.activation_bits is None
        block = self.recipe.block if blocks and op_key(node) in ("Gemm", "MatMul") else 0
        self.weights[name] = WeightPlace(name, axis, reads, bits, block, nodes)

    def _want(self, node: ir.Node, row: Row) -> None:
        """Which bits a rule asks of what the node reads; the most that any reader asks."""
        rule = self.recipe.rule_for(self._names(node, row))
        for position in row.data or ():
            value = self._input(node, position)
            if value is not None:
                bits = rule.activations if rule is not None else None
                known = self.wanted.get(str(value.name))
                both = [b for b in (bits, known) if b is not None]
                self.wanted[str(value.name)] = max(both) if both else None

    def _product(self, node: ir.Node) -> str:
        """A MatMul of two activations."""
        weight = node.inputs[1]
        made = None if weight is None else weight.producer()
        if made is not None and made.op_type in INTEGER_OPS:
            return ARRIVED
        if op_key(node) != "MatMul" or self._constant(weight):
            return "its weight is computed, or an input of the model"
        if self.recipe.activation_bits is None:
            return "it has no stored weight"
        if not self.recipe.products:
            return "it multiplies two activations (products=true quantises it)"
        for value in node.inputs[:2]:
            self.wanted.setdefault(str(value.name if value is not None else ""), None)
        self.found[str(node.name)] = NodePlace(str(node.name), "MatMul", (0, 1))
        return ""

    def _follower(self, node: ir.Node, row: Row) -> str:
        """Integers where what it reads is the result of an integer layer, all of it stored here."""
        if self.recipe.activation_bits is None:
            return "activations stay float"
        data = range(len(node.inputs)) if row.data is None else row.data
        values = [node.inputs[k] for k in data]
        if any(v is None or self._constant(v) for v in values):
            return "it reads a constant"
        if not any(str(v.name) in self.root for v in values if v is not None):
            return "what it reads is no result of an integer layer"
        if not any(str(value.name) in self.read for value in node.outputs):
            return "no layer is behind it"
        output, fused = self._output(node)
        for value in values:
            self.wanted.setdefault(str(value.name if value is not None else ""), None)
        self.found[str(node.name)] = NodePlace(
            str(node.name), op_key(node), tuple(data), output=output, fused=fused
        )
        self.root[output] = output
        return ""

    def _mover(self, node: ir.Node, row: Row) -> str:
        """Results are the integers that are read; nothing is decided here."""
        value = self._input(node, 0)
        if value is None or self.recipe.activation_bits is None or self._constant(value):
            return "no integers"
        source = self.root.get(str(value.name))
        for out in node.outputs:
            # Also behind a float value that is to become integers: the same ones serve both.
            self.root[str(out.name)] = source or ""
            if source is None:
                self.root.pop(str(out.name))
        return ""

    def _constant(self, value: ir.Value | None) -> bool:
        if value is None:
            return False
        return str(value.name) in self.facts.constants or literal(value) is not None

    def _output(self, node: ir.Node) -> tuple[str, str]:
        """The value that holds a node's result behind a Relu or Clip, and that node's name."""
        value = node.outputs[0]
        readers = [user for user, _ in value.uses()]
        if len(readers) == 1 and not value.is_graph_output() and readers[0].graph is node.graph:
            (reader,) = readers
            if op_key(reader) in CLAMPS and reader.inputs[0] is value and not bodies(reader):
                self.fused.add(str(reader.name))
                return str(reader.outputs[0].name), str(reader.name)
        return str(value.name), ""

    def _settled(self, graph: Sequence[ir.Node]) -> Places:
        """Bits per value; movers between integers take part, those that lead nowhere do not."""
        assert self.recipe.activation_bits is not None or not self.wanted
        activations: dict[str, int] = {}
        same: dict[str, str] = {}
        for place in self.found.values():
            if place.output:
                self.wanted.setdefault(place.output, None)
        for node in reversed(graph):
            row = ROWS.get(op_key(node))
            if row is None or row.kind is not Kind.MOVES or not node.inputs:
                continue
            value, outs = node.inputs[0], [str(o.name) for o in node.outputs]
            moved = value is not None and all(o in self.root or o in self.wanted for o in outs)
            if value is None or not moved or not any(o in self.wanted for o in outs):
                continue
            if str(node.name) in self.floats or self._type(node) or row.refuses(node):
                continue
            if self._constant(value):
                continue
            bits = [self.wanted.get(o) for o in outs]
            known = [b for b in (*bits, self.wanted.get(str(value.name))) if b is not None]
            self.wanted[str(value.name)] = max(known) if known else None
            for out in outs:
                self.wanted.setdefault(out, None)
                same[out] = str(value.name)
        for name, asked in self.wanted.items():
            if name not in same:
                activations[name] = asked or self.recipe.activation_bits or 8
        roots = {name: _follow(name, same) for name in same}
        return Places(
            tuple(self.found[str(n.name)] for n in graph if str(n.name) in self.found),
            MappingProxyType(self.weights),
            MappingProxyType(activations),
            MappingProxyType(roots),
            MappingProxyType(self.floats),
        )


def _stored_input(add: ir.Node) -> int:
    """Which input of an Add is the stored bias."""
    return next(k for k, v in enumerate(add.inputs) if v is not None and v.is_initializer())


def _follow(name: str, same: Mapping[str, str]) -> str:
    while name in same:
        name = same[name]
    return name

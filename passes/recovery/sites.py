"""The contractions of a model that can be solved anew, in the order of the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.diagnostics import Diagnostic, Severity
from prunec.compiler.facts import Facts
from prunec.compiler.literals import literal
from prunec.compiler.ops import op_key
from prunec.compiler.walk import bodies, nodes
from prunec.passes.recovery.forms import FORMS, Form, form_of
from prunec.passes.recovery.moments import FloatArray
from prunec.passes.recovery.storage import Stored, stored
from prunec.passes.recovery.tails import Slot, Tail, tail_of

# What multiplies a stored weight.
MULTIPLIES = frozenset({*FORMS, "Einsum", "LSTM", "GRU", "RNN", "com.microsoft::Attention"})
# What multiplies stored integers -> the input that they are.
QUANTISED: Mapping[str, int] = {
    "ConvInteger": 1,
    "MatMulInteger": 1,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
    "com.microsoft::DynamicQuantizeMatMul": 1,
    "com.microsoft::MatMulBnb4": 1,
    "com.microsoft::MatMulIntegerToFloat": 1,
    "com.microsoft::MatMulNBits": 1,
    "com.microsoft::QAttention": 1,
    "com.microsoft::QGemm": 3,
    "com.microsoft::QLinearConv": 3,
}


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """A node that reads a weight. x, y: names of what it multiplies and makes.

    bias: (M,) what it adds itself, over all groups; 0 where it adds nothing. slot: where an
    intercept goes: its own bias, else one in the tail, else None.
    """

    node: ir.Node
    position: int
    form: Form
    x: str
    y: str
    bias: FloatArray
    tail: Tail
    slot: Slot | None


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A stored weight with all nodes that multiply it. place: position in the graph of the last.

    order: channel of each output where the uses have them in another order (see `blocked`).
    """

    weight: Stored
    uses: tuple[Use, ...]
    place: int
    order: NDArray[np.int64] | None = None

    @property
    def name(self) -> str:
        """Of the first node."""
        return str(self.uses[0].node.name)


def find_sites(
    model: ir.Model, facts: Facts, writable: Callable[[str], bool] = lambda _: True
) -> tuple[tuple[Site, ...], tuple[Diagnostic, ...]]:
    """All of them, by place; and what is left alone, and why.

    facts: ranks of values, for any binding and any width. writable: of stored tensors, which can
    be changed.
    """
    found: dict[str, list[tuple[int, Use, Stored]]] = {}
    notes: list[Diagnostic] = []
    fixed = _Fixed(model.graph)
    for place, node in enumerate(model.graph):
        notes += (*_inner(node), *fixed.notes(node))
        fixed.follow(node)
        for position, value in enumerate(node.inputs):
            weight = stored(value)
            if weight is None or len(weight.shape) < 2:
                continue
            form = form_of(node, position, weight.shape)
            if form is None:
                notes += (
                    [left_alone(node, "prunec does not solve such a weight")]
                    if op_key(node) in MULTIPLIES
                    else []
                )
                continue
            use = _use(node, position, form, weight, facts)
            if not writable(weight.name):
                notes.append(left_alone(node, "it is inside of a function"))
            elif use is None:
                notes.append(left_alone(node, "its shape or its bias is not known"))
            else:
                if use.slot is not None and not writable(use.slot.name):
                    use = replace(use, slot=None)
                found.setdefault(weight.name, []).append((place, use, weight))
    sites = []
    for name, uses in found.items():
        readers = _readers(model, name)
        if not _alike(uses) or readers != len(uses):
            notes += [left_alone(u.node, f"{name} is read in several ways") for _, u, _ in uses]
            continue
        sites.append(Site(uses[0][2], tuple(u for _, u, _ in uses), uses[-1][0]))
    sites.sort(key=lambda site: site.place)
    return tuple(_last_branches(model, sites)), tuple(notes)


def _alike(uses: Sequence[tuple[int, Use, Stored]]) -> bool:
    """Whether all make the same matrix of the weight, not one the transpose of another's."""
    if len(uses) == 1:
        return True
    if len({w.turn for _, _, w in uses}) > 1:
        return False
    shape = uses[0][2].shape
    probe = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    first, *others = (use.form.matrix(probe) for _, use, _ in uses)
    return all(np.array_equal(first, other) for other in others)


def left_alone(node: ir.Node, why: str) -> Diagnostic:
    """What is said of a weight that is not solved."""
    text = f"the weight of {node.op_type} stays as it was sliced: {why}"
    return Diagnostic("not-recovered", str(node.name), text, Severity.INFO)


class _Fixed:
    """What is made of stored tensors alone, and why it is no weight that can be solved."""

    def __init__(self, graph: ir.Graph) -> None:
        self._why: dict[ir.Value, str] = {}
        for name, value in graph.initializers.items():
            fed = f"{name} is an input of the model, which may be given another"
            self._why[value] = fed if value.is_graph_input() else ""

    def follow(self, node: ir.Node) -> None:
        """Learn of what a node makes; in the order of the graph."""
        read = [v for v in node.inputs if v is not None]
        if any(v not in self._why for v in read) or bodies(node):
            return
        why = next((self._why[v] for v in read if self._why[v]), "")
        if op_key(node) == "DequantizeLinear":
            why = "it is quantised"
        elif op_key(node) != "Constant":
            why = why or "it is computed"
        self._why |= dict.fromkeys(node.outputs, why)

    def notes(self, node: ir.Node) -> Iterator[Diagnostic]:
        """Of the weight of a node, where it is no stored float."""
        kind = op_key(node)
        if kind in QUANTISED and node.inputs[QUANTISED[kind]] in self._why:
            yield left_alone(node, "it is quantised")
        own = [v for v in node.inputs[:2] if v is not None] if kind in FORMS else []
        why = [self._why[v] for v in own if v in self._why and stored(v) is None]
        if len(why) == 1 and any(v not in self._why for v in own):
            yield left_alone(node, why[0])


def _inner(node: ir.Node) -> Iterator[Diagnostic]:
    """Contractions in bodies of control flow: what they read is not seen from outside."""
    for body in bodies(node):
        for inner in nodes(body):
            for position, value in enumerate(inner.inputs):
                weight = stored(value)
                if weight is not None and form_of(inner, position, weight.shape) is not None:
                    yield left_alone(inner, "it is inside a body of control flow")


def _readers(model: ir.Model, name: str) -> int:
    """How many nodes read a stored tensor, through Transpose, Cast and Identity."""
    values = [v for v in model.graph.initializers.values() if v.name == name]
    values += [v for n in model.graph for v in n.outputs if v.name == name]
    count, pending = 0, list(values)
    while pending:
        value = pending.pop()
        count += value.is_graph_output()
        for node, _ in value.uses():
            if not node.domain and node.op_type in ("Transpose", "Cast", "Identity"):
                pending += node.outputs
            else:
                count += 1
    return count


def _use(node: ir.Node, position: int, form: Form, weight: Stored, facts: Facts) -> Use | None:
    x, y = node.inputs[form.data], node.outputs[0]
    if x is None or literal(x) is not None or str(y.name) not in facts.shapes:
        return None
    rank = len(facts.shapes[str(y.name)])
    matrix = form.matrix(np.zeros(weight.shape, np.float32))
    channels = matrix.shape[0] * matrix.shape[2]
    bias, slot = np.zeros(channels), None
    tail = tail_of(y, channels, form.target_axis, rank)
    given = None
    if form.bias is not None and len(node.inputs) > form.bias:
        given = node.inputs[form.bias]
    if given is not None:
        contents = literal(given)
        if contents is None or contents.size not in (1, channels) or contents.ndim > 2:
            return None
        if contents.ndim == 2 and contents.shape[0] != 1:
            return None
        bias = np.zeros(channels) + contents.reshape(-1).astype(np.float64) * form.bias_scale
        held = stored(given)
        direct = held is not None and held.name == given.name and len(list(given.uses())) == 1
        if direct and contents.size == channels and form.bias_scale:
            slot = Slot(str(given.name), np.full(channels, 1 / form.bias_scale))
    return Use(node, position, form, str(x.name), str(y.name), bias, tail, slot or tail.slot)


def _last_branches(model: ir.Model, sites: Sequence[Site]) -> Iterator[Site]:
    """The sites, with the sum kept in a tail only where all other operands are settled by then:
    no site that comes later feeds them.
    """
    own: dict[int, int] = {id(u.node): s.place for s in sites for u in s.uses}
    latest: dict[str, int] = {}
    for node in model.graph:
        read = [v for v in node.inputs if v is not None]
        for body in bodies(node):
            read += [v for inner in nodes(body) for v in inner.inputs if v is not None]
        deep = max((latest.get(str(v.name), -1) for v in read), default=-1)
        deep = max(deep, own.get(id(node), -1))
        latest |= {str(v.name): deep for v in node.outputs}
    for site in sites:
        uses = []
        for use in site.uses:
            settled = all(latest.get(name, -1) < site.place for name in use.tail.others)
            tail = use.tail if settled else replace(use.tail, total="", others=())
            uses.append(replace(use, tail=tail))
        yield replace(site, uses=tuple(uses))

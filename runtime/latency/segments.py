"""A network in parts whose time can be told apart, and what two parts must share to cost alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import gcd

import onnx_ir as ir

from prunec.compiler.cost import Linear
from prunec.compiler.hypergraph import CountPatch, linear
from prunec.compiler.ops import op_key
from prunec.compiler.walk import bodies, nodes
from prunec.runtime.recount import COUNTERS
from prunec.runtime.subject import Subject

Dim = tuple[Linear | None, int]  # size = number * form, or the number alone


@dataclass(frozen=True, slots=True)
class Segment:
    """A node that multiplies and what follows it at the same sizes, or what stands by itself.

    key: the same for segments that take the same time at the same sizes of the factors; operators,
    attributes, element types and shapes, no names. factors: sizes that pruning can change, the
    first input's first. nodes: positions in the graph.
    """

    key: str
    factors: tuple[Linear, ...]
    nodes: tuple[int, ...]

    def sizes(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Of the factors at these kept counts."""
        return tuple(factor(counts) for factor in self.factors)


def segments(subject: Subject) -> tuple[Segment, ...]:
    """The parts of a model, in graph order; every node that runs is in one.

    onnxruntime fuses a convolution with the additions, norms and activations behind it, so nodes
    that do not multiply belong to the last of their producers, unless they bring a new size.
    """
    return _Cutter(subject).cut()


@dataclass(slots=True)
class _Part:
    factors: list[Linear]
    nodes: list[int] = field(default_factory=list)


class _Cutter:
    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._edge_of = subject.graph.edge_of_group()
        self._forms: dict[int, Dim] = {}
        counters = {**COUNTERS, **subject.extensions.counters}
        self._counted = {
            (p.node, p.key) for p in subject.graph.patches if isinstance(p, CountPatch)
        }
        self._nodes = list(subject.model.graph)
        self._multiplies = [
            op_key(n) in counters or any(True for _ in bodies(n)) for n in self._nodes
        ]

    def cut(self) -> tuple[Segment, ...]:
        parts: list[_Part] = []
        home: dict[str, int] = {}
        for k, node in enumerate(self._nodes):
            if self._folded(node):
                continue
            own = list(
                dict.fromkeys(
                    f for dims in self._dims(node, self._multiplies[k]) for f, _ in dims if f
                )
            )
            before = [home[v.name or ""] for v in node.inputs if v is not None and v.name in home]
            last = max(before, default=None)
            if self._multiplies[k] or last is None or not set(own) <= set(parts[last].factors):
                last = len(parts)
                parts.append(_Part(own))
            parts[last].nodes.append(k)
            home.update((v.name or "", last) for v in node.outputs)
        return tuple(Segment(self._key(p), tuple(p.factors), tuple(p.nodes)) for p in parts)

    def _folded(self, node: ir.Node) -> bool:
        constants = self._subject.facts.constants
        return node.op_type == "Constant" or (
            bool(node.outputs) and all((v.name or "") in constants for v in node.outputs)
        )

    def _dims(self, node: ir.Node, multiplies: bool) -> list[tuple[Dim, ...]]:
        """What its time depends on; of nodes that only move or map data, what comes out."""
        out = list(self._dims_of(node.outputs))
        if not multiplies and any(form for dims in out for form, _ in dims):
            return out
        return [*self._dims_of(node.inputs), *out]

    def _dims_of(self, values: Sequence[ir.Value | None]) -> Iterator[tuple[Dim, ...]]:
        """Of what flows and of stored matrices; stored vectors and integers follow from those."""
        facts = self._subject.facts
        for value in values:
            name = "" if value is None else value.name or ""
            if name not in facts.shapes:
                continue
            stored = name in facts.constants or name in self._subject.model.graph.initializers
            if stored and (len(self._shape(name)) < 2 or facts.dtypes[name].kind in "iub"):
                continue
            yield tuple(self._dim(name, k) for k in range(len(self._shape(name))))

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._subject.facts.shapes[name]

    def _dim(self, name: str, axis: int) -> Dim:
        groups = self._subject.graph.axes.get((name, axis))
        if groups is None:
            return None, self._shape(name)[axis]
        if id(groups) not in self._forms:
            form = linear(groups, self._edge_of, self._subject.graph.dense())
            whole = reduce(gcd, (m for _, m in form.terms), form.constant)
            terms = tuple((e, m // whole) for e, m in form.terms)
            self._forms[id(groups)] = Linear(form.constant // whole, terms), whole
        return self._forms[id(groups)]

    def _key(self, part: _Part) -> str:
        letters = {factor: chr(ord("a") + k) for k, factor in enumerate(part.factors)}
        said = []
        for k in part.nodes:
            node = self._nodes[k]
            shapes = [
                "x".join(_token(dim, letters) for dim in dims) or "1"
                for dims in self._dims(node, self._multiplies[k])
            ]
            said.append(f"{op_key(node)}{self._attributes(node)}({', '.join(shapes)})")
        first = self._nodes[part.nodes[0]]
        kinds = [self._subject.facts.dtypes.get(v.name or "") for v in first.inputs if v]
        kind = next((str(dtype) for dtype in kinds if dtype is not None), "unknown")
        return f"{kind} " + " > ".join(said)

    def _attributes(self, node: ir.Node) -> str:
        """In braces; tensors by their shapes, bodies by their operators, kept counts as ~."""
        shown = []
        for name, attribute in sorted(node.attributes.items()):
            if (node.name, name) in self._counted:
                shown.append(f"{name}=~")
                continue
            match attribute.type:
                case ir.AttributeType.GRAPH:
                    inside = " ".join(op_key(inner) for inner in nodes(attribute.as_graph()))
                    shown.append(f"{name}=[{inside}]")
                case ir.AttributeType.TENSOR:
                    shown.append(f"{name}={list(attribute.value.shape)}")
                case ir.AttributeType.INTS | ir.AttributeType.FLOATS | ir.AttributeType.STRINGS:
                    shown.append(f"{name}={','.join(map(str, attribute.value))}")
                case _:
                    shown.append(f"{name}={attribute.value}")
        return "{" + " ".join(shown) + "}" if shown else ""


def _token(dim: Dim, letters: Mapping[Linear, str]) -> str:
    form, number = dim
    if form is None:
        return str(number)
    return letters[form] if number == 1 else f"{number}{letters[form]}"

"""Run a graph over labels instead of tensors: every node's rule, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from prunec.compiler.assemble import assemble
from prunec.compiler.diagnostics import Diagnostic, Severity
from prunec.compiler.errors import ModelError
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Axis, Hypergraph, WeightInfo
from prunec.compiler.labels import AxisLabels, Coupler
from prunec.compiler.rules import RULES
from prunec.compiler.site import Rule, Site, Unsupported, stay

FLOATS = frozenset(
    {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}
)


def interpret(model: ir.Model, facts: Facts, rules: Mapping[str, Rule] | None = None) -> Hypergraph:
    """Couple the channels of `model` and count their costs.

    An operator without a rule freezes what it touches and leaves a diagnostic. Linear in the
    number of channels over all axes.
    """
    run = _Run(model.graph, facts, RULES if rules is None else rules, dict(model.opset_imports))
    run.inputs()
    for node in model.graph:
        run.step(node)
    run.outputs()
    run.coupler.settle()
    return assemble(
        run.coupler,
        run.labels,
        tuple(run.weights()),
        tuple(run.reads),
        run.made,
        frozenset(run.constant),
        tuple(dict.fromkeys(run.diagnostics)),
    )


class _Run:
    """State of one interpretation; lives inside `interpret`."""

    def __init__(
        self, graph: ir.Graph, facts: Facts, rules: Mapping[str, Rule], opsets: Mapping[str, int]
    ) -> None:
        self.graph, self.facts, self.rules, self.opsets = graph, facts, rules, opsets
        self.coupler = Coupler()
        self.labels: dict[str, AxisLabels] = {}
        self.constant: set[str] = set()  # values that depend on stored tensors alone
        self.diagnostics: list[Diagnostic] = []
        self.reads: dict[Axis, None] = {}
        self.made: set[int] = set()  # id() of label arrays that a weight produces

    def inputs(self) -> None:
        """Graph inputs are frozen; stored tensors get a label per index."""
        c = self.coupler
        for name, value in self.graph.initializers.items():
            shape = self.facts.shapes.get(name)
            if shape is None or value.const_value is None:
                continue
            self.labels[name] = tuple(c.fresh(n) if n > 1 else c.frozen(n) for n in shape)
            self.constant.add(name)
        for value in self.graph.inputs:
            name = value.name or ""
            if name not in self.labels and name in self.facts.shapes:
                self.labels[name] = stay(self.facts.shapes[name], c)

    def outputs(self) -> None:
        """What leaves the graph keeps its shape."""
        self.coupler.node = ""
        for value in self.graph.outputs:
            for labels in self.labels.get(value.name or "", ()):
                self.coupler.freeze(labels, f"{value.name} is an output of the model")

    def step(self, node: ir.Node) -> None:
        """Apply the rule of one node, or freeze what it touches."""
        self.coupler.node = node.name or ""
        op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        rule = self.rules.get(op)
        reason = "no coupling rule"
        if rule is not None:
            unknown = self._unknown(node)
            if not unknown:
                try:
                    self._apply(node, rule)
                except Unsupported as why:
                    reason = str(why)
                else:
                    return
            else:
                reason = f"the shape of {unknown} is not known"
        self._opaque(node, op, reason)

    def _unknown(self, node: ir.Node) -> str:
        for value in node.inputs:
            if value is not None and value.name not in self.labels:
                return str(value.name)
        for value in node.outputs:
            read = bool(value.uses()) or value.is_graph_output()
            if value.name and read and value.name not in self.facts.shapes:
                return str(value.name)
        return ""

    def _apply(self, node: ir.Node, rule: Rule) -> None:
        names = [None if v is None else v.name for v in node.inputs]
        site = Site(
            node=node,
            opset=self.opsets.get(node.domain, self.opsets.get("", 1)),
            in_shapes=tuple(self.facts.shapes[n] if n else () for n in names),
            out_shapes=tuple(self.facts.shapes.get(v.name or "", ()) for v in node.outputs),
            constants=tuple(self.facts.constants.get(n) if n else None for n in names),
            weights=tuple(n in self.constant for n in names),
            floats=tuple(n is None or self._is_float(n) for n in names),
        )
        ins = [self.labels[n] if n else () for n in names]
        marks = len(self.coupler.reads), len(self.coupler.freed)
        outs = rule(site, ins, self.coupler)
        self._record_outputs(node, outs)
        read = {id(a) for a in self.coupler.reads[marks[0] :]}
        self.made.update(id(a) for a in self.coupler.freed[marks[1] :])
        for name, axes in zip(names, ins, strict=True):
            for axis, labels in enumerate(axes):
                if name and name not in self.constant and id(labels) in read:
                    self.reads[name, axis] = None

    def _is_float(self, name: str) -> bool:
        dtype = self.facts.dtypes.get(name)
        # ml_dtypes' bfloat16 and float8 have kind "V".
        return dtype is None or dtype.kind in "fV"

    def _record_outputs(self, node: ir.Node, outs: Sequence[AxisLabels]) -> None:
        constant = all(v is None or v.name in self.constant for v in node.inputs)
        for value, axes in zip(node.outputs, outs, strict=False):
            name = value.name or ""
            if not name or name not in self.facts.shapes:
                continue
            lengths = tuple(len(labels) for labels in axes)
            if lengths != self.facts.shapes[name]:
                raise Unsupported(
                    f"its rule gives the shape {lengths} for {name}, "
                    f"shape inference {self.facts.shapes[name]}"
                )
            # An axis of size 1 can't lose its only channel.
            self.labels[name] = tuple(
                labels if len(labels) != 1 else self.coupler.frozen(1) for labels in axes
            )
            if constant:
                self.constant.add(name)

    def _opaque(self, node: ir.Node, op: str, reason: str) -> None:
        c = self.coupler
        for name in [*(v.name for v in node.inputs if v is not None), *_captured(node)]:
            for labels in self.labels.get(name or "", ()):
                c.freeze(labels, f"{op}: {reason}")
        for value in node.outputs:
            name = value.name or ""
            if name in self.facts.shapes:
                self.labels[name] = stay(self.facts.shapes[name], c)
        self.diagnostics.append(
            Diagnostic(
                "opaque-op",
                node.name or "",
                f"{op}: {reason}; its inputs and outputs are frozen",
                Severity.WARNING,
            )
        )

    def weights(self) -> Iterator[WeightInfo]:
        """Stored tensors in the order in which the graph first reads them."""
        uses: dict[str, bool] = {}
        stored: dict[str, ir.DataType | None] = {}
        for node in self.graph:
            if node.op_type == "Constant" and node.outputs[0].name:
                name = node.outputs[0].name
                stored[name] = node.outputs[0].dtype or ir.DataType.UNDEFINED
            for position, value in enumerate(node.inputs):
                if value is None or not value.name:
                    continue
                auxiliary = (node.name or "", position) in self.coupler.auxiliary
                uses[value.name] = uses.get(value.name, False) or not auxiliary
            for name in _captured(node):
                uses[name] = True
        for name, value in self.graph.initializers.items():
            stored[name] = value.const_value.dtype if value.const_value else None
        for name, matters in uses.items():
            dtype = stored.get(name)
            if dtype is None or name not in self.facts.shapes or name not in self.labels:
                continue
            shape = self.facts.shapes[name]
            if len(shape) > 1 and 0 in shape:
                raise ModelError(f"weight {name} has shape {shape}: no elements to work with")
            is_float = dtype in FLOATS or np.dtype(self.facts.dtypes.get(name, "i8")).kind == "f"
            counted = bool(matters and shape and is_float)
            itemsize = self.facts.dtypes[name].itemsize if name in self.facts.dtypes else 0
            yield WeightInfo(name, shape, itemsize, counted)


def _captured(node: ir.Node) -> Iterator[str]:
    """Names that the bodies of a control-flow node read, from outside or inside."""
    for attr in node.attributes.values():
        if attr.is_ref():
            continue
        graphs: Sequence[ir.Graph] = ()
        if attr.type == ir.AttributeType.GRAPH:
            graphs = (attr.value,)
        elif attr.type == ir.AttributeType.GRAPHS:
            graphs = tuple(attr.value)
        for graph in graphs:
            for inner in graph:
                for value in inner.inputs:
                    if value is not None and value.name:
                        yield value.name
                yield from _captured(inner)
            for value in graph.outputs:
                if value.name:
                    yield value.name

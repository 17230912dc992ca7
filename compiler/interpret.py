"""Run a graph over labels instead of tensors: every node's rule, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from prunec.compiler.assemble import assemble
from prunec.compiler.branches import with_branches
from prunec.compiler.control import is_control
from prunec.compiler.diagnostics import Diagnostic, Severity, assumed_sizes
from prunec.compiler.encoding import Zero, followed_back
from prunec.compiler.factors import settle
from prunec.compiler.facts import Facts
from prunec.compiler.freedom import Freedom
from prunec.compiler.hypergraph import Axis, Hypergraph, WeightInfo
from prunec.compiler.joins import settle_joins, with_joins
from prunec.compiler.labels import AxisLabels, Coupler
from prunec.compiler.ops import op_key
from prunec.compiler.reasons import Reason
from prunec.compiler.rules import RULES
from prunec.compiler.rules.stays import why_it_stays
from prunec.compiler.schedule import timeline
from prunec.compiler.site import Rule, Scope, Site, Unsupported, stay
from prunec.compiler.walk import bodies, graphs, initializers, nodes
from prunec.compiler.windows import with_windows


def interpret(
    model: ir.Model,
    facts: Facts,
    rules: Mapping[str, Rule] | None = None,
    freedom: Freedom | None = None,
) -> Hypergraph:
    """Couple the channels of `model` and count their costs.

    An operator without a rule freezes what it touches and leaves a diagnostic. Linear in the
    number of channels over all axes.
    """
    run = _Run(
        model.graph,
        facts,
        RULES if rules is None else rules,
        dict(model.opset_imports),
        freedom or Freedom(),
    )
    run.inputs()
    for node in model.graph:
        run.step(node)
    run.outputs()
    settle(run.coupler)
    settle_joins(run.coupler)
    # What a body computes can't be measured from outside.
    visible = {v.name for n in model.graph for v in n.outputs}
    visible |= {v.name for v in model.graph.inputs}

    constants = frozenset(run.constant)
    opset = model.opset_imports.get("", 1)
    held = timeline(model.graph, run.labels, constants, facts, opset)

    def assembled() -> Hypergraph:
        return assemble(
            run.coupler,
            run.labels,
            tuple(run.weights()),
            tuple(axis for axis in run.reads if axis[0] in visible),
            run.made,
            constants,
            (*dict.fromkeys(run.diagnostics), *assumed_sizes(facts.bound, _computed(model.graph))),
            {name: zero.name for name, zero in run.zeros.items()},
            held,
        )

    graph = with_joins(run.coupler, nodes(model.graph), with_windows(run.coupler, assembled))
    by = tuple(at for at, name in run.read_by.items() if (name, at[2]) in graph.axes)
    return with_branches(model, replace(graph, read_by=by))


def _computed(graph: ir.Graph) -> frozenset[str]:
    return frozenset(value.name or "" for node in nodes(graph) for value in node.outputs)


class _Run:
    """State of one interpretation; lives inside `interpret`."""

    def __init__(
        self,
        graph: ir.Graph,
        facts: Facts,
        rules: Mapping[str, Rule],
        opsets: Mapping[str, int],
        freedom: Freedom,
    ) -> None:
        self.graph, self.facts, self.rules, self.opsets = graph, facts, rules, opsets
        self.coupler = Coupler(freedom)
        self.labels: dict[str, AxisLabels] = {}
        self.constant: set[str] = set()  # values that depend on stored tensors alone
        self.zeros: dict[str, Zero] = {}  # integer values in which zero is known
        self.diagnostics: list[Diagnostic] = []
        self.reads: dict[Axis, None] = {}
        self.read_by: dict[tuple[str, int, int], str] = {}  # -> the value that is read
        self.made: set[int] = set()  # id() of label arrays that a weight produces
        self.scope = Scope(self.labels, facts.shapes, facts.certain(), self.body)
        self.runs = True  # whether the graph at hand may run at all

    def inputs(self) -> None:
        """Graph inputs are frozen; stored tensors get a label per index."""
        c = self.coupler
        self._stored(self.graph)
        for value in self.graph.inputs:
            name = value.name or ""
            if name not in self.labels and name in self.facts.shapes:
                self.labels[name] = stay(self.facts.shapes[name], c, Reason.GRAPH_INPUT)

    def _stored(self, graph: ir.Graph) -> None:
        c = self.coupler
        for name, value in graph.initializers.items():
            shape = self.facts.shapes.get(name)
            if shape is None or value.const_value is None:
                continue
            self.labels[name] = tuple(c.fresh(n) if n > 1 else c.frozen(n) for n in shape)
            self.constant.add(name)

    def body(self, graph: ir.Graph, times: int) -> None:
        """Interpret the body of a node of control flow; its costs count `times` times."""
        c = self.coupler
        node, runs, mark = c.node, self.runs, len(c.products)
        # What never runs can't be wrong. It must still load, so what is known there is followed.
        self.runs = runs and (times > 0 or bool(self.facts.assumed))
        self._stored(graph)
        c.inside += 1
        for inner in graph:
            self.step(inner)
        c.inside -= 1
        c.node, self.runs = node, runs
        c.repeat(mark, times)

    def outputs(self) -> None:
        """What leaves the graph keeps its shape."""
        self.coupler.node = ""
        for value in self.graph.outputs:
            for labels in self.labels.get(value.name or "", ()):
                self.coupler.freeze(
                    labels, Reason.GRAPH_OUTPUT, f"{value.name} is an output of the model"
                )

    def step(self, node: ir.Node) -> None:
        """Apply the rule of one node, or freeze what it touches."""
        self.coupler.node = node.name or ""
        op = op_key(node)
        rule = self.rules.get(op)
        kind, reason = why_it_stays(op)
        if rule is not None:
            unknown = "" if is_control(node) else self._unknown(node)
            if not unknown:
                try:
                    self._apply(node, rule)
                except Unsupported as why:
                    kind, reason = why.reason, str(why)
                else:
                    return
            else:
                kind, reason = Reason.DYNAMIC_SHAPE, f"the shape of {unknown} is not known"
        self._opaque(node, op, kind, reason)

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
            in_shapes=tuple(self.facts.shapes.get(n, ()) if n else () for n in names),
            out_shapes=tuple(self.facts.shapes.get(v.name or "", ()) for v in node.outputs),
            constants=tuple(self.facts.constants.get(n) if n else None for n in names),
            weights=tuple(n in self.constant for n in names),
            floats=tuple(n is None or self._is_float(n) for n in names),
            assumed=tuple(n in self.facts.assumed for n in names),
            zeros=tuple(self.zeros.get(n) if n else None for n in names),
            scope=self.scope,
            fixed=not self.facts.bound,
        )
        ins = [self.labels.get(n, ()) if n else () for n in names]
        marks = len(self.coupler.reads), len(self.coupler.freed)
        outs = rule(site, ins, self.coupler)
        self._record_outputs(node, outs)
        if not is_control(node):
            self._record_zeros(node)
        read = {id(a) for a in self.coupler.reads[marks[0] :]}
        self.made.update(id(a) for a in self.coupler.freed[marks[1] :])
        for position, (name, axes) in enumerate(zip(names, ins, strict=True)):
            for axis, labels in enumerate(axes):
                if name and name not in self.constant and id(labels) in read:
                    self.reads[name, axis] = None
                    self.read_by[node.name or "", position, axis] = name

    def _is_float(self, name: str) -> bool:
        dtype = self.facts.dtypes.get(name)
        # ml_dtypes' bfloat16, float8 and int4 all have kind "V".
        return dtype is None or dtype.kind == "f" or _datatype(dtype).is_floating_point()

    def _record_zeros(self, node: ir.Node) -> None:
        """Which integer is zero in the outputs: as the rule says, else as in the inputs."""
        for position, value in enumerate(node.outputs):
            name = value.name or ""
            said = self.coupler.zeros.get((node.name or "", position))
            if said is not None:
                self.zeros[name] = Zero(said, self.facts.constants.get(said) if said else None)
                continue
            # Moving and comparing integers of one type keeps their zero, if it is one zero.
            dtype = self.facts.dtypes.get(name)
            sources = [
                v.name or ""
                for v in node.inputs
                if v is not None and self.facts.dtypes.get(v.name or "") == dtype
            ]
            zeros = [self.zeros.get(n) for n in sources if n not in self.constant]
            first = zeros[0] if zeros else None
            if first is not None and all(z is not None and z.agrees(first) for z in zeros):
                self.zeros[name] = first

    def _record_outputs(self, node: ir.Node, outs: Sequence[AxisLabels]) -> None:
        known = all(v is None or v.name in self.constant for v in node.inputs)
        constant = known and not is_control(node)
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
            # An axis of size 1 can't lose its only channel, wherever it was taken from.
            for labels in axes:
                if len(labels) == 1:
                    text = "a channel that is read by itself"
                    self.coupler.freeze(labels, Reason.SINGLE_CHANNEL, text)
            self.labels[name] = tuple(
                labels if len(labels) != 1 else self.coupler.frozen(1) for labels in axes
            )
            if constant:
                self.constant.add(name)

    def _opaque(self, node: ir.Node, op: str, kind: Reason, reason: str) -> None:
        c = self.coupler
        for value in node.outputs:
            name = value.name or ""
            if name in self.facts.shapes:
                self.labels[name] = stay(self.facts.shapes[name], c, kind)
        if not self.runs:
            return
        for body in bodies(node):
            for graph in graphs(body):
                self._stored(graph)
        for read in [*(v.name for v in node.inputs if v is not None), *_captured(node)]:
            for labels in self.labels.get(read or "", ()):
                c.freeze(labels, kind, f"{op}: {reason}")
        stated = op not in self.rules and kind is not Reason.UNKNOWN_OP
        self.diagnostics.append(
            Diagnostic(
                "frozen-op" if stated else "opaque-op",
                node.name or "",
                f"{op}: {reason}; its inputs and outputs are frozen",
                Severity.INFO if stated else Severity.WARNING,
            )
        )

    def weights(self) -> Iterator[WeightInfo]:
        """Stored tensors in the order in which the graph first reads them."""
        uses: dict[str, bool] = {}
        stored: dict[str, ir.DataType | None] = {}
        encodings = followed_back(nodes(self.graph), self.coupler.encodings)
        for node in nodes(self.graph):
            if node.op_type == "Constant" and node.outputs[0].name:
                name = node.outputs[0].name
                stored[name] = node.outputs[0].dtype or ir.DataType.UNDEFINED
            for position, value in enumerate(node.inputs):
                if value is None or not value.name:
                    continue
                auxiliary = (node.name or "", position) in self.coupler.auxiliary
                uses[value.name] = uses.get(value.name, False) or not auxiliary
            for body in bodies(node):
                uses.update((value.name or "", True) for value in body.outputs)
        for name, value in initializers(self.graph).items():
            stored[name] = value.const_value.dtype if value.const_value else None
        for name, matters in uses.items():
            dtype = stored.get(name)
            if dtype is None or name not in self.facts.shapes or name not in self.labels:
                continue
            shape = self.facts.shapes[name]
            kind = _datatype(self.facts.dtypes.get(name, np.dtype(np.int64)))
            is_weight = kind.is_floating_point() or name in encodings
            counted = bool(matters and shape and is_weight)
            yield WeightInfo(name, shape, kind.itemsize, counted, encodings.get(name))


def _datatype(dtype: np.dtype[Any]) -> ir.DataType:
    return ir.DataType.BOOL if dtype.kind == "b" else ir.DataType.from_numpy(dtype)


def _captured(node: ir.Node) -> Iterator[str]:
    """Names that the bodies of a node read, from outside or inside."""
    for body in bodies(node):
        for inner in nodes(body):
            yield from (value.name for value in inner.inputs if value is not None and value.name)
        for graph in graphs(body):
            yield from (value.name for value in graph.outputs if value.name)

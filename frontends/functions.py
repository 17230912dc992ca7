"""Model-local functions: calls are expanded for the analysis; calls.py puts them back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from prunec.compiler.calls import CALL, FORMAL, call_of, formals_of
from prunec.compiler.walk import bodies, nodes, values
from prunec.frontends.naming import fresh

MOST_NODES = 200_000  # functions that call functions may expand to any number of nodes
_CALLS = "prunec.calls"  # on the graph: name -> call
_ADDED = "prunec.imports"  # on the graph: domains that only expanded nodes need


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call that was expanded: the node, detached, and the names of what it read and made."""

    node: ir.Node
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]


def inlined(model: ir.Model) -> ir.Model:
    """A model in which no node calls a function that can be expanded; `model` if none does.

    Names inside are `call/name`, so that the same call gives the same names. The functions stay in
    the model, for `with_calls`. A call stays where its function imports another version of a
    foreign operator, takes a graph as attribute or would make the model too large: its op has no
    rule then. Functions are not recursive: the checker has seen to that.
    """
    if not model.functions or not any(_function(model, node) for node in nodes(model.graph)):
        return model
    copy = model.clone()
    _Expansion(copy).run()
    return copy


def calls_in(model: ir.Model) -> Mapping[str, Call]:
    """The outermost calls that were expanded in a model, by name, in graph order."""
    found = model.graph.meta.get(_CALLS)
    return found if isinstance(found, Mapping) else {}


def imports_added(model: ir.Model) -> tuple[str, ...]:
    """Domains of operators that the model imports for expanded nodes alone."""
    found = model.graph.meta.get(_ADDED)
    return found if isinstance(found, tuple) else ()


def _function(model: ir.Model, node: ir.Node) -> ir.Function | None:
    return model.functions.get(node.op_identifier())


class _Expansion:
    """Expands calls in a model, in place."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.graph = model.graph
        self.values = {str(v.name) for v in values(model.graph)}
        self.nodes = {str(node.name) for node in nodes(model.graph)}
        self.count = len(self.nodes)
        self.calls: dict[str, Call] = {}
        self.added: list[str] = []

    def run(self) -> None:
        for node in list(nodes(self.graph)):
            self._expand(node)
        for node in reversed(list(nodes(self.graph))):
            # What makes an output that this call does not use.
            unread = all(not v.uses() and not v.is_graph_output() for v in node.outputs)
            if call_of(node) is not None and unread and not bodies(node):
                _home(node).remove(node, safe=True)
        self.graph.meta[_CALLS] = self.calls
        self.graph.meta[_ADDED] = tuple(self.added)

    def _expand(self, call: ir.Node) -> None:
        function = _function(self.model, call)
        if function is None or not self._fits(call, function):
            return
        outermost = call_of(call)
        if outermost is None:
            inputs = tuple(None if v is None else v.name for v in call.inputs)
            outputs = tuple(v.name or "" for v in call.outputs)
            self.calls[str(call.name)] = Call(call, inputs, outputs)
        body = function.clone().graph
        new = list(body)
        self._resolve(new, call, function)
        for node in _with_inner(new):
            node.meta[CALL] = outermost or str(call.name)
            node.metadata_props.update(
                {k: v for k, v in call.metadata_props.items() if k not in node.metadata_props}
            )
        self._bind(call, body)
        self._rename(new, call)
        results = self._results(call, body, new)
        body.outputs.clear()
        body.remove(list(body))
        home = _home(call)
        home.insert_before(call, new)
        for old, result in zip(call.outputs, results, strict=False):
            _replace(old, result)
        home.remove(call, safe=True)
        self.count += len(new)
        for node in list(_with_inner(new)):
            self._expand(node)

    def _fits(self, call: ir.Node, function: ir.Function) -> bool:
        body = list(_with_inner(list(function)))
        given = [*call.attributes.values(), *function.attributes.values()]
        return (
            len(call.inputs) <= len(function.inputs)
            and len(call.outputs) <= len(function.outputs)
            and self.count + len(body) <= MOST_NODES
            and not any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in given)
            and all(self._same_version(function, node) for node in body)
        )

    def _same_version(self, function: ir.Function, node: ir.Node) -> bool:
        """Whether an operator means the same under the imports of the function and the model."""
        if node.op_identifier() in self.model.functions:
            return True
        wanted = function.opset_imports.get(node.domain)
        have = self.graph.opset_imports.get(node.domain)
        if wanted is None or wanted == have:
            return True
        if have is None:
            # An operator of another domain, which the model does not import by itself.
            self.graph.opset_imports[node.domain] = wanted
            self.added.append(node.domain)
            return True
        # Of its own operators onnx's checker has compared the versions.
        return not node.domain

    def _resolve(self, new: Sequence[ir.Node], call: ir.Node, function: ir.Function) -> None:
        """Give attributes that refer to those of the call their values."""
        defaults = {a.name: a for a in function.attributes.values() if a.value is not None}
        given = {**defaults, **call.attributes}
        for node in _with_inner(new):
            for name, attribute in list(node.attributes.items()):
                if not attribute.is_ref():
                    continue
                told = given.get(attribute.ref_attr_name or "")
                del node.attributes[name]
                if told is not None:  # else the operator's own default holds
                    node.attributes[name] = ir.Attr(name, told.type, told.value)

    def _bind(self, call: ir.Node, body: ir.Graph) -> None:
        """Let the body read what the call reads."""
        outer = formals_of(call) if call_of(call) is not None else None
        for k, formal in enumerate(body.inputs):
            actual = call.inputs[k] if k < len(call.inputs) else None
            source = k if outer is None else outer.get(k)
            for user, position in list(formal.uses()):
                user.replace_input_with(position, actual)
                if source is not None:
                    user.meta[FORMAL] = {**formals_of(user), position: source}

    def _rename(self, new: Sequence[ir.Node], call: ir.Node) -> None:
        for node in _with_inner(new):
            node.name = fresh(f"{call.name}/{node.name}", self.nodes)
            own = [*node.outputs]
            for body in bodies(node):
                own += [*body.inputs]
                own += [v for v in body.initializers.values() if not v.is_graph_input()]
            for value in own:
                if value.name:
                    value.name = fresh(f"{call.name}/{value.name}", self.values)

    def _results(self, call: ir.Node, body: ir.Graph, new: list[ir.Node]) -> list[ir.Value]:
        """The value for each output of the call: one of its own each, made by the body."""
        formals = {id(v): k for k, v in enumerate(body.inputs)}
        results: list[ir.Value] = []
        for k, result in enumerate(body.outputs):
            value = result
            if id(value) in formals or any(value is other for other in results):
                copy = self._copied(call, value, formals.get(id(value)), k)
                new.append(copy)
                value = copy.outputs[0]
            results.append(value)
        return results

    def _copied(self, call: ir.Node, value: ir.Value, formal: int | None, k: int) -> ir.Node:
        """What makes the k-th output of a call: one of its inputs or of its other outputs."""
        source: ir.Value | None = value
        if formal is not None:
            source = call.inputs[formal] if formal < len(call.inputs) else None
        copy = ir.Node("", "Identity", [source], num_outputs=1)
        copy.name = fresh(f"{call.name}/output_{k}", self.nodes)
        copy.outputs[0].name = fresh(f"{call.name}/output_{k}", self.values)
        copy.meta[CALL] = call_of(call) or str(call.name)
        outer = formal if call_of(call) is None else formals_of(call).get(formal or 0)
        if formal is not None and outer is not None:
            copy.meta[FORMAL] = {0: outer}
        return copy


def _with_inner(tops: Sequence[ir.Node]) -> Iterator[ir.Node]:
    """Nodes and those of their bodies."""
    for top in tops:
        for body in bodies(top):
            yield from nodes(body)
        yield top


def _home(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph), node.name
    return node.graph


def _replace(old: ir.Value, new: ir.Value) -> None:
    """Let `new` stand for an output of a call, under its name."""
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if old.name:
        new.name = old.name
    new.type = old.type or new.type
    new.shape = old.shape if old.shape is not None else new.shape
    new.metadata_props.update(old.metadata_props)

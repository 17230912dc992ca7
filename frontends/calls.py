"""Calls of model-local functions put back into a rewritten model, where nothing inside changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from prunec.compiler.calls import call_of, formals_of
from prunec.compiler.walk import GRAPH_KINDS, bodies, nodes, values
from prunec.frontends.functions import Call, calls_in, imports_added

Blocks = Mapping[str, Sequence[ir.Node]]
Functions = Mapping[ir.OperatorIdentifier, ir.Function]
Actuals = dict[int, tuple[ir.Value | None, ir.Value | None]]


def with_calls(model: ir.Model, dense: ir.Model) -> ir.Model:
    """`model`, a rewriting of `dense`, with every call whose nodes are all as they are there.

    Weights that a call reads may have shrunk; what its function holds may not. Functions that
    nothing calls any more are dropped, as are imports that only expanded nodes needed.
    """
    calls = calls_in(model)
    if not calls:
        return model
    out = model.clone()
    before, now = _blocks(dense), _blocks(out)
    named = {str(value.name): value for value in values(out.graph)}
    for name, call in calls.items():
        block = now.get(name, ())
        function = out.functions[call.node.op_identifier()]
        if block and _is_unchanged(before.get(name, ()), block, _used(function, call)):
            _collapse(named, call, block)
    # What a call reads may have been put in front of a node in its middle; what is in order stays.
    out.graph.sort()
    _drop_unused(out, calls)
    for function in out.functions.values():
        for node in function.all_nodes():
            for value in node.outputs:
                value.shape = None  # it was that of the dense model
    return out


def _blocks(model: ir.Model) -> Blocks:
    """Call -> the nodes that come from it."""
    found: dict[str, list[ir.Node]] = defaultdict(list)
    for node in nodes(model.graph):
        name = call_of(node)
        if name is not None:
            found[name].append(node)
    return found


def _used(function: ir.Function, call: Call) -> set[int]:
    """Which inputs of a call its function reads."""
    return {
        k
        for k, (formal, name) in enumerate(zip(function.inputs, call.inputs, strict=False))
        if name and formal.uses()
    }


def _is_unchanged(before: Sequence[ir.Node], now: Sequence[ir.Node], used: set[int]) -> bool:
    """Whether nodes agree one by one, and still read all that the call gives."""
    read: Actuals = {}
    return (
        len(before) == len(now)
        and all(_is_same(a, b, read) for a, b in zip(before, now, strict=True))
        and used <= read.keys()
    )


def _is_same(a: ir.Node, b: ir.Node, read: Actuals) -> bool:
    """Whether two nodes agree. read: what the call gives for each of its inputs, before and now."""
    if (a.name, a.op_identifier()) != (b.name, b.op_identifier()) or len(a.inputs) != len(b.inputs):
        return False
    if [v.name for v in a.outputs] != [v.name for v in b.outputs]:
        return False
    formals = formals_of(b)
    for position, (x, y) in enumerate(zip(a.inputs, b.inputs, strict=True)):
        if position in formals:
            given = read.setdefault(formals[position], (x, y))
            if given[0] is not x or given[1] is not y:
                return False
        elif _name(x) != _name(y) or _contents(x) is not _contents(y):
            return False
    return a.attributes.keys() == b.attributes.keys() and all(
        _is_same_attribute(attribute, b.attributes[key]) for key, attribute in a.attributes.items()
    )


def _is_same_attribute(a: ir.Attr, b: ir.Attr) -> bool:
    """Attributes that a rewriting leaves alone are shared between clones; bodies are cloned."""
    if a.type not in GRAPH_KINDS or a.type is not b.type:
        return a is b
    single = a.type is ir.AttributeType.GRAPH
    pairs = [(a.value, b.value)] if single else list(zip(a.value, b.value, strict=True))
    return all(
        [_name(v) for v in x.outputs] == [_name(v) for v in y.outputs]
        and x.initializers.keys() == y.initializers.keys()
        and all(v.const_value is y.initializers[n].const_value for n, v in x.initializers.items())
        for x, y in pairs
    )


def _contents(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The stored tensor that a value is: one that was folded out of the function may shrink."""
    return value.const_value if value is not None and value.is_initializer() else None


def _name(value: ir.Value | None) -> str | None:
    return None if value is None else value.name


def _collapse(named: dict[str, ir.Value], call: Call, block: Sequence[ir.Node]) -> None:
    """Put a call in the place of its nodes. named: all values of the model, kept up to date."""
    inputs = [named.get(name) if name else None for name in call.inputs]
    for node in block:
        for position, formal in formals_of(node).items():
            inputs[formal] = node.inputs[position]
    node = ir.Node(
        call.node.domain,
        call.node.op_type,
        inputs,
        list(call.node.attributes.values()),
        overload=call.node.overload,
        num_outputs=len(call.outputs),
        name=call.node.name,
        doc_string=call.node.doc_string,
        metadata_props=dict(call.node.metadata_props),
    )
    inner = {id(n) for top in block for body in bodies(top) for n in nodes(body)}
    tops = [n for n in block if id(n) not in inner]
    home = tops[0].graph
    assert isinstance(home, ir.Graph)
    home.insert_before(tops[0], node)
    for name, new in zip(call.outputs, node.outputs, strict=True):
        old = named.get(name) if name else None
        new.name = name  # also where nothing reads it: onnx wants as many as the function has
        if old is not None:
            new.type, new.shape = old.type, old.shape
            new.metadata_props.update(old.metadata_props)
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            named[name] = new
    for gone in block:
        gone.resize_inputs(0)
    home.remove(tops)


def _drop_unused(model: ir.Model, calls: Mapping[str, Call]) -> None:
    before = _reached((call.node for call in calls.values()), model.functions)
    still = _reached(nodes(model.graph), model.functions)
    for key in before - still:
        del model.functions[key]
    domains = {node.domain for node in nodes(model.graph)}
    imports = model.graph.opset_imports
    for domain in imports_added(model):
        if domain not in domains:
            imports.pop(domain, None)


def _reached(start: Iterable[ir.Node], functions: Functions) -> set[ir.OperatorIdentifier]:
    """Functions that nodes call, directly or through others."""
    found: set[ir.OperatorIdentifier] = set()
    waiting = list(start)
    while waiting:
        key = waiting.pop().op_identifier()
        if key in functions and key not in found:
            found.add(key)
            waiting += functions[key].all_nodes()
    return found

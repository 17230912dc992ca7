"""A model under the compiler: as it came, as it is analysed, and what is known of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from prunec.compiler.diagnostics import Diagnostic, Severity
from prunec.compiler.errors import ModelError
from prunec.compiler.extensions import Extensions, load_extensions
from prunec.compiler.extensions import Source as RulesSource
from prunec.compiler.facts import Facts
from prunec.compiler.freedom import Freedom
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.interpret import interpret
from prunec.compiler.ops import op_key
from prunec.compiler.walk import nodes
from prunec.frontends.bindings import Shape
from prunec.frontends.contrib import Known, Shaper, Types
from prunec.frontends.digest import graph_digest
from prunec.frontends.fold import folded
from prunec.frontends.functions import inlined
from prunec.frontends.onnx import load
from prunec.frontends.origin import origin_of
from prunec.frontends.shapes import infer_facts
from prunec.passes.simplify.sequences import resolve
from prunec.passes.simplify.unflatten import unflatten
from prunec.passes.simplify.unshare import unshare

# A gs.Graph too, but onnx-graphsurgeon has no types and is not needed to name them.
Source = str | os.PathLike[str] | bytes | onnx.ModelProto | ir.Model | Any
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """source: the model as loaded. model: the same with functions expanded and merged vectors
    stored apart; what is analysed, gated and pruned. shapes: bindings of symbolic inputs. digest:
    of `source`. extensions: the rules that it was coupled with.
    """

    source: ir.Model
    model: ir.Model
    facts: Facts
    graph: Hypergraph
    digest: str
    shapes: Shapes
    path: Path | None
    extensions: Extensions


def open_model(
    source: Source,
    shapes: Shapes | None = None,
    *,
    strict: bool = False,
    freedom: Freedom | None = None,
    rules: Sequence[RulesSource] = (),
) -> Subject:
    """Load, simplify, infer shapes, couple and count.

    strict: an operator without a rule is an error instead of a diagnostic. freedom: of a plan that
    is to be applied, the plan's. rules: modules with rules of the user's (`load_extensions`).
    Raises ModelError, UsageError.
    """
    extensions = load_extensions(rules)
    loaded = load(source)
    model = unflatten(unshare(folded(resolve(inlined(loaded)))))
    facts = infer_facts(model, shapes, shapers(extensions))
    graph = interpret(model, facts, extensions.rules, freedom)
    own = extensions.diagnostics({op_key(node) for node in nodes(model.graph)})
    graph = replace(graph, diagnostics=(*_notes(model, facts), *own, *graph.diagnostics))
    warnings = [d for d in graph.diagnostics if d.severity is Severity.WARNING]
    if strict and warnings:
        raise ModelError(f"--strict: {warnings[0]}")
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    return Subject(
        source=loaded,
        model=model,
        facts=facts,
        graph=graph,
        digest=graph_digest(loaded),
        shapes=dict(shapes or {}),
        path=path,
        extensions=extensions,
    )


def reopened(model: ir.Model, like: Subject, freedom: Freedom | None = None) -> Subject:
    """A model that was made from a subject's: analysed anew with the same shapes and rules.

    freedom: None for that of the subject. Raises ModelError.
    """
    flat = unflatten(unshare(folded(resolve(inlined(model)))))
    facts = infer_facts(flat, like.shapes, shapers(like.extensions))
    own = like.graph.freedom if freedom is None else freedom
    graph = interpret(flat, facts, like.extensions.rules, own)
    return replace(like, source=model, model=flat, facts=facts, graph=graph, path=None)


def _notes(model: ir.Model, facts: Facts) -> Iterator[Diagnostic]:
    """What loading changed, and which inputs have no shape."""
    yield from origin_of(model).notes
    for value in model.graph.inputs:
        if value.name not in facts.shapes and isinstance(value.type, ir.TensorType):
            text = f"input {value.name!r} has no shape; give --shape {value.name}:1,3,64,64"
            yield Diagnostic("no-shape", "", text)


def shapers(extensions: Extensions) -> dict[str, Shaper]:
    """The user's shape functions, for shape inference."""
    return {op: _shaper(function) for op, function in extensions.shapes.items()}


def _shaper(function: Callable[..., Sequence[Sequence[int]]]) -> Shaper:
    """Outputs have the element type of the first input."""

    def shaper(node: ir.Node, shapes: Sequence[Shape], types: Types) -> Sequence[Known]:
        kind = types[0] if types else None
        return [(tuple(int(n) for n in shape), kind) for shape in function(node, shapes)]

    return shaper

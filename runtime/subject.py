"""A model under the compiler: as it came, as it is analysed, and what is known of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from prunec.compiler.errors import ModelError
from prunec.compiler.extensions import extended
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.interpret import interpret
from prunec.compiler.rules import RULES
from prunec.frontends.digest import graph_digest
from prunec.frontends.onnx import load
from prunec.frontends.shapes import infer_facts
from prunec.passes.simplify.unshare import unshare

# A gs.Graph too, but onnx-graphsurgeon has no types and is not needed to name them.
Source = str | os.PathLike[str] | bytes | onnx.ModelProto | ir.Model | Any
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """source: the model as loaded. model: the same with merged vectors stored apart; what is
    analysed, gated and pruned. shapes: bindings of symbolic inputs. digest: of `source`.
    """

    source: ir.Model
    model: ir.Model
    facts: Facts
    graph: Hypergraph
    digest: str
    shapes: Shapes
    path: Path | None


def open_model(source: Source, shapes: Shapes | None = None, *, strict: bool = False) -> Subject:
    """Load, simplify, infer shapes, couple and count.

    strict: an operator without a rule is an error instead of a diagnostic. Raises ModelError,
    UsageError.
    """
    loaded = load(source)
    model = unshare(loaded)
    facts = infer_facts(model, shapes)
    graph = interpret(model, facts, extended(RULES, "prunec.rules"))
    if strict and graph.diagnostics:
        raise ModelError(f"--strict: {graph.diagnostics[0]}")
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    return Subject(loaded, model, facts, graph, graph_digest(loaded), dict(shapes or {}), path)

"""What the oracle checks of a pruned model without comparing what it computes."""

from __future__ import annotations

import re
from pathlib import Path

import onnx_ir as ir

from prunec.compiler.costs import MEASURED
from prunec.compiler.errors import ModelError
from prunec.compiler.joins import OF_ACTIVATIONS
from prunec.compiler.plan import Plan
from prunec.compiler.walk import initializers
from prunec.frontends.checker import check_fully
from prunec.frontends.shapes import infer_facts
from prunec.runtime.difference import Failed
from prunec.runtime.recount import recount
from prunec.runtime.session import make_session
from prunec.runtime.subject import Subject, shapers


def check_interface(dense: ir.Model, pruned: ir.Model) -> str:
    """Inputs, outputs, opsets and metadata are those of the dense model. Raises Failed."""
    for what, read in (
        ("inputs", lambda m: [(v.name, str(v.dtype), _free_shape(v, m)) for v in m.graph.inputs]),
        ("outputs", lambda m: [(v.name, str(v.dtype), _dims(v)) for v in m.graph.outputs]),
        # Nodes that a function call left behind may need one more.
        (
            "opset imports",
            lambda m: {d: v for d, v in m.opset_imports.items() if d in dense.opset_imports},
        ),
        ("metadata", lambda m: dict(m.metadata_props)),
        ("producer", lambda m: (m.producer_name, m.producer_version, m.ir_version)),
    ):
        if read(dense) != read(pruned):
            raise Failed(f"{what} differ: {read(dense)} became {read(pruned)}")
    return "inputs, outputs, dynamic axes, opsets and metadata are those of the dense model"


def _free_shape(value: ir.Value, model: ir.Model) -> list[str] | None:
    # A weight that is also an input may shrink.
    return None if value.name in model.graph.initializers else _dims(value)


def _dims(value: ir.Value) -> list[str] | None:
    return None if value.shape is None else [str(d) for d in value.shape]


def check_weights(subject: Subject, plan: Plan, pruned: ir.Model) -> str:
    """Every stored tensor of the pruned model has the size that the plan says."""
    dense, count = initializers(subject.model.graph), 0
    for name, value in initializers(pruned.graph).items():
        source = dense.get(name)
        if source is None or source.const_value is None or value.const_value is None:
            continue
        shape = list(source.const_value.shape.numpy())
        for axis, kept in plan.weights.get(name, {}).items():
            shape[axis] = len(kept)
        have = list(value.const_value.shape.numpy())
        if have != shape:
            raise Failed(f"{name} has shape {have}, the plan says {shape}")
        count += 1
    return f"{count} stored tensors have the shapes that the plan says"


def check_costs(subject: Subject, plan: Plan, pruned: ir.Model) -> str:
    """Recount == polynomial == plan, and within the budget. Raises Failed."""
    facts = infer_facts(pruned, subject.shapes, shapers(subject.extensions))
    graph = subject.graph
    counted = recount(pruned, facts, graph.weights, graph.held, subject.extensions.counters)
    counts = plan.counts(graph)
    # What a branch that vanishes leaves to its neighbours is not known before: that can be less.
    vanished = any(all(not counts[e] for e in branch) for branch in graph.branches)
    for resource, polynomial in subject.graph.costs.items():
        missing = polynomial(counts) if resource in OF_ACTIVATIONS else -1
        claimed = plan.costs.get(resource, (0, missing))[1]
        below = vanished and resource in OF_ACTIVATIONS and counted[resource] < claimed
        if not (counted[resource] == claimed or below) or polynomial(counts) != claimed:
            raise Failed(
                f"{resource}: recount {counted[resource]}, polynomial {polynomial(counts)}, "
                f"plan {claimed}"
            )
    for resource, limit in plan.budget.items():
        if resource not in MEASURED and counted[resource] > limit:
            raise Failed(f"{resource}: {counted[resource]} exceeds the budget {limit}")
    return "recount == polynomial for " + ", ".join(subject.graph.costs) + "; within budget"


def check_standard(dense: ir.Model, pruned: ir.Model) -> str:
    """onnx.checker accepts it, or refuses the dense model for the same. Raises ModelError."""
    try:
        check_fully(pruned)
    except ModelError as error:
        try:
            check_fully(dense)
        except ModelError as same:
            # Sizes differ; what is refused must not.
            if re.sub(r"\d+", "", str(same)) == re.sub(r"\d+", "", str(error)):
                return f"it refuses the dense model, and the pruned one for the same: {same}"
        raise
    return "onnx.checker with full shape inference"


def check_loading(subject: Subject, pruned: ir.Model, path: Path | None) -> str:
    """onnxruntime loads it without a new warning. Raises Failed, ModelError."""
    session = make_session(pruned if path is None else path)
    if session.warnings and not make_session(subject.model).warnings:
        raise Failed(f"onnxruntime warns: {session.warnings[0]}")
    return "onnxruntime loads it without a new warning"

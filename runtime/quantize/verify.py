"""The oracle for a model that was quantised after slicing, recovery and grouping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from prunec.compiler.errors import ModelError, PlanError
from prunec.compiler.plan import Plan
from prunec.passes.quantize.strip import strip
from prunec.runtime.compile import apply_plan
from prunec.runtime.difference import Failed
from prunec.runtime.grouped import mask_blocks, regrouped, slicing
from prunec.runtime.legality import check_loading
from prunec.runtime.quantize.again import COMPONENT, recorded
from prunec.runtime.quantize.joint import edge_names
from prunec.runtime.quantize.prepare import prepared
from prunec.runtime.quantize.prove import moved
from prunec.runtime.recovery.only_weights import check_only_weights
from prunec.runtime.subject import Subject, reopened
from prunec.runtime.verify import SEED, Check, Verification, verify


def verify_quantised(
    subject: Subject, plan: Plan, given: ir.Model, path: Path | None = None, *, seed: int = SEED
) -> Verification:
    """Prove the slicing by carrying it out again; then what is left without Q and DQ must be that.

    Where the plan names no recovery the integers are held against the sliced weights, too. path:
    the file of `given`, if there is one. Raises PlanError when the plan belongs to another model;
    everything else is a failed check.
    """
    alone = slicing(subject, plan)
    alone = replace(alone, components={k: v for k, v in alone.components.items() if k != COMPONENT})
    sliced = apply_plan(subject, alone)
    proved = verify(subject, alone, sliced, seed=seed)
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("loads as written", lambda: check_loading(subject, given, path)),
        ("same but for Q and DQ", lambda: _same(subject, plan, sliced, given)),
    )
    checks = list(proved.checks)
    for name, step in steps:
        try:
            checks.append(Check(name, True, step()))
        except (Failed, ModelError, PlanError) as error:
            checks.append(Check(name, False, str(error)))
    return replace(proved, checks=tuple(checks))


def _same(subject: Subject, plan: Plan, sliced: ir.Model, given: ir.Model) -> str:
    """The float model of the plan against what the quantised one is without integers."""
    model = sliced
    if plan.groups:
        model = regrouped(subject, plan, mask_blocks(plan, sliced)).model
    recipe = recorded(plan)
    edges = edge_names(reopened(model, subject).graph)
    ready = prepared(model, recipe, subject.shapes, edges)
    found, base = strip(given), strip(ready.model)
    check_only_weights(base.model, found.model)
    missing = sorted(set(plan.bits) - set(found.steps))
    if missing:
        raise Failed(f"{missing[0]} is stored as floats; the plan gives it {plan.bits[missing[0]]}")
    text = f"{len(found.pairs)} values and {len(found.steps)} stored tensors are integers"
    if "recovery" in plan.components:
        return f"{text}; without them the graph is that of the plan, with recovered numbers"
    away = moved(base, found)
    if recipe.nearest and away.largest > 0.501:
        raise Failed(f"a weight is {away.largest:.3f} steps from the sliced one, more than half")
    return (
        f"{text}; numbers are at most {away.largest:.2f} steps from the sliced ones, "
        f"{away.saturated:.2%} beyond the last integer"
    )

"""The oracle for grouped convolutions: masked == grouped, and a file that a plan gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from prunec.compiler.errors import ModelError, PlanError
from prunec.compiler.grouped import recorded
from prunec.compiler.partition import REMOVED, Partition
from prunec.compiler.plan import Plan
from prunec.frontends.functions import inlined
from prunec.frontends.onnx import load
from prunec.passes.recovery.storage import tensor_of
from prunec.passes.regroup.detect import pattern_of
from prunec.passes.regroup.rewrite import regroup
from prunec.passes.regroup.sites import stored_values
from prunec.runtime.compile import apply_plan
from prunec.runtime.difference import Failed
from prunec.runtime.grouped import (
    PERMUTING,
    Grouped,
    blocks_of,
    mask_blocks,
    regrouped,
    require_costs,
    slicing,
)
from prunec.runtime.inputs import Feeds, bound_inputs, random_feeds
from prunec.runtime.legality import check_loading, check_standard
from prunec.runtime.recovery.only_weights import check_only_weights
from prunec.runtime.regroup.one_term import one_term_blocks
from prunec.runtime.selectors import with_contents
from prunec.runtime.subject import Subject, reopened
from prunec.runtime.verify import (
    SEED,
    SELECTOR_SEEDS,
    Check,
    Verification,
    difference,
    responds,
    tolerance_of,
    verify,
)
from prunec.runtime.widen import runnable

Step = tuple[str, Callable[[], str]]


def prove(
    subject: Subject,
    blocks: Mapping[str, Partition],
    masked: ir.Model,
    grouped: ir.Model,
    *,
    seed: int = SEED,
) -> tuple[Check, ...]:
    """Compare a masked model with the grouped one that was made of it.

    subject: what both come from: shapes and rules. blocks: over the axes of `masked`.
    """
    steps: tuple[Step, ...] = (
        ("grouped checker", lambda: check_standard(subject.source, grouped)),
        ("masked == grouped", lambda: _equal(subject, masked, grouped, seed)),
        ("exact blocks", lambda: _exact(subject, blocks, masked, seed)),
    )
    return _carried_out(steps)


def prove_lossless(
    subject: Subject, plan: Plan, result: ir.Model, *, seed: int = SEED
) -> tuple[Check, ...]:
    """Compare the model as it came with one that may only lack what changes no output.

    Exactly, as far as groups go: where the weights are 0 off their blocks, the model is its own
    masked form, and what is made of that is proved by `prove`. () where the plan removes more than
    what was detected.
    """
    said = recorded(plan)
    chosen = any(key in said for key in ("conv", "max_per_group"))
    if chosen or plan.budget or plan.bits or "recovery" in plan.components:
        return ()
    if not any(said.get(key) for key in ("detect_groups", "detect_dead")):
        return ()
    steps: list[Step] = [("lossless", lambda: _equal(subject, subject.model, result, seed))]
    if plan.groups:
        steps.insert(0, ("zeros off blocks", lambda: _zeros(subject, plan.groups)))
    return _carried_out(steps)


def verify_grouped(
    subject: Subject,
    plan: Plan,
    changed: ir.Model,
    path: Path | None = None,
    *,
    retrained: bool = False,
    seed: int = SEED,
) -> Verification:
    """Prove a grouped file from its plan, by carrying the plan out again step by step.

    dense -> sliced is proved as ever; sliced -> masked -> grouped with one-term weights, and as
    the file has what that gives, it is right too. retrained: its float weights may have other
    numbers. path: the file of `changed`. Raises PlanError where the plan belongs to another model.
    """
    sliced = apply_plan(subject, plan)
    proved = verify(subject, slicing(subject, plan), sliced, seed=seed)
    masked = mask_blocks(plan, sliced)
    again = regrouped(subject, plan, masked)
    steps: tuple[Step, ...] = (
        ("grouped as planned", lambda: _as_planned(load(again.model), changed, retrained)),
        ("grouped cost", lambda: _costs(plan, replace(again, costs=_counted(subject, changed)))),
        ("loads as written", lambda: check_loading(subject, changed, path)),
    )
    checks = (
        *prove(subject, blocks_of(plan), masked, again.model, seed=seed),
        *_carried_out(steps),
        *prove_lossless(subject, plan, changed, seed=seed),
    )
    return replace(proved, checks=(*proved.checks, *checks))


def _carried_out(steps: Sequence[Step]) -> tuple[Check, ...]:
    checks = []
    for name, step in steps:
        try:
            checks.append(Check(name, True, step()))
        except (Failed, ModelError, PlanError) as error:
            checks.append(Check(name, False, str(error)))
    return tuple(checks)


def _counted(subject: Subject, model: ir.Model) -> Mapping[str, int]:
    """What the model costs, counted on its own graph."""
    graph = reopened(model, subject).graph
    return {name: cost(graph.dense()) for name, cost in graph.costs.items()}


def _costs(plan: Plan, found: Grouped) -> str:
    require_costs(plan, found)
    return "recount of the grouped model == plan, and within budget"


def _as_planned(again: ir.Model, changed: ir.Model, retrained: bool) -> str:
    said = check_only_weights(again, changed)
    if not retrained and not said.startswith("0 of"):
        raise Failed(f"{said}, though the plan names no recovery; --retrained allows that")
    return said.replace("all else is as sliced", "all else is as the plan groups it")


def _zeros(subject: Subject, blocks: Mapping[str, Partition]) -> str:
    """blocks: over the axes of the model as it came."""
    stored = stored_values(subject.model)
    for name, partition in blocks.items():
        tensor = tensor_of(stored[name])
        assert tensor is not None, name
        kept = [np.array(ids) != REMOVED for ids in (partition.outputs, partition.inputs)]
        lost = pattern_of(tensor.numpy()) & ~partition.mask() & np.logical_and.outer(*kept)
        if lost.any():
            raise Failed(f"{name}: {int(lost.sum())} kernels off the blocks are not 0")
    return f"{len(blocks)} weights, as they came, are 0 off their blocks"


def _equal(subject: Subject, masked: ir.Model, grouped: ir.Model, seed: int) -> str:
    stand = runnable(reopened(masked, subject), inlined(grouped))
    feeds = _feeds(stand.subject, seed)
    error = difference(stand.subject, stand.subject.model, stand.pruned, feeds)
    tolerance = tolerance_of(stand.subject)
    if not error <= tolerance:
        raise Failed(f"outputs differ by {error:.2e} of the largest; tolerance {tolerance:.0e}")
    return f"random inputs: largest difference {error:.1e} of the largest output"


def _exact(subject: Subject, blocks: Mapping[str, Partition], masked: ir.Model, seed: int) -> str:
    """Orders and Gathers depend on the blocks alone, so other weights prove the same rewriting."""
    slim = reopened(masked, subject, PERMUTING)
    tolerance = tolerance_of(slim)
    for attempt in range(seed, seed + SELECTOR_SEEDS):
        contents = one_term_blocks(slim, blocks, attempt)
        dense = with_contents(slim.model, contents, {})
        found = regroup(dense, slim.facts, slim.graph, blocks).model
        stand = runnable(replace(slim, model=dense), found)
        feeds = _feeds(stand.subject, seed)
        error = difference(stand.subject, stand.subject.model, stand.pruned, feeds)
        if not error <= tolerance:
            raise Failed(f"with one-term weights outputs differ by {error:.2e} of the largest")
        if responds(stand.subject, stand.subject.model, seed):
            kind = "equal in every bit" if error == 0 else f"largest difference {error:.1e}"
            return f"{len(contents)} weights replaced by one-term sums: {kind}"
    return "proves nothing here: with one-term weights no signal reaches the outputs"


def _feeds(subject: Subject, seed: int) -> Feeds:
    return random_feeds(bound_inputs(subject.model, subject.facts), seed, shapes=subject.shapes)

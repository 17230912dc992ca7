"""Kernel positions per filter in plans: a looser budget for channels, zeros for the rest."""

from __future__ import annotations

from typing import Any

from prunec.compiler.errors import PlanError, UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.plan import Plan
from prunec.compiler.problem import Limit
from prunec.passes.positions import RESOURCES, Zeroed, effective, thin
from prunec.runtime.subject import Subject

KEY = "kernel_positions"  # in Plan.options


def loosened(graph: Hypergraph, limits: tuple[Limit, ...], gamma: float) -> tuple[Limit, ...]:
    """The limits of the channels: flops and params 1 / gamma times as large, dense at most.

    Raises UsageError where neither is limited.
    """
    if not any(x.resource in RESOURCES for x in limits):
        raise UsageError("--kernel-positions per-filter needs a budget of flops or params")
    dense = graph.dense()
    return tuple(
        Limit(
            x.resource, max(x.at_most, min(int(x.at_most / gamma), graph.costs[x.resource](dense)))
        )
        if x.resource in RESOURCES
        else x
        for x in limits
    )


def thinned(
    subject: Subject, plan: Plan, limits: tuple[Limit, ...], gamma: float
) -> dict[str, Any]:
    """What `Plan.options` records: the zeroed positions and what is counted without them."""
    graph, mask = subject.graph, plan.mask(subject.graph)
    zeroed = thin(subject.model, subject.facts, graph, mask, limits)
    costs = effective(subject.model, subject.facts, graph, mask, zeroed)
    wanted = {x.resource: x.at_most for x in limits if x.resource in RESOURCES}
    return {KEY: {"gamma": gamma, "zeroed": zeroed, "effective": costs, "limits": wanted}}


def zeroed_of(plan: Plan) -> Zeroed:
    """The zeroed positions of a plan. Raises PlanError where they are no tables of text."""
    found = plan.options.get(KEY)
    if not isinstance(found, dict):
        return {}
    zeroed = found.get("zeroed")
    if not isinstance(zeroed, dict) or not all(
        isinstance(own, dict) and all(isinstance(x, str) for x in own.values())
        for own in zeroed.values()
    ):
        raise PlanError(f"$.options.{KEY}.zeroed: must be weight -> positions -> filters")
    return zeroed


def check_zeroed(subject: Subject, plan: Plan) -> None:
    """Hold the zeroed positions against the model and their limits. Raises PlanError."""
    found = plan.options.get(KEY)
    if not isinstance(found, dict):
        return
    graph, mask = subject.graph, plan.mask(subject.graph)
    true = effective(subject.model, subject.facts, graph, mask, zeroed_of(plan))
    if found.get("effective") != true:
        raise PlanError(
            f"$.options.{KEY}.effective: is {found.get('effective')}, but counted are {true}"
        )
    limits = found.get("limits")
    for resource, limit in (limits if isinstance(limits, dict) else {}).items():
        if resource not in true or not isinstance(limit, int) or true[resource] > limit:
            raise PlanError(f"$.options.{KEY}.limits[{resource!r}]: is {limit}, counted are {true}")

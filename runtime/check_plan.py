"""Hold a plan against the model that it claims to be for."""

from __future__ import annotations

from prunec.compiler.costs import MEASURED
from prunec.compiler.errors import PlanError
from prunec.compiler.joins import OF_ACTIVATIONS, broken_joins
from prunec.compiler.plan import Plan, weight_slices
from prunec.runtime.grouped import check_blocks, slicing
from prunec.runtime.subject import Subject
from prunec.runtime.thin import check_zeroed


def check_plan(subject: Subject, plan: Plan) -> None:
    """Hold a plan against the model that it claims to be for. Raises PlanError."""
    missing = [name for name in plan.rules if name not in subject.extensions.names]
    if missing:
        raise PlanError(
            f"$.options.rules: the plan was made with --rules {missing[0]}, which is missing here; "
            "give it again (the module or its file)"
        )
    require_digest(subject, plan)
    mask = plan.mask(subject.graph)
    _check_sets(subject, plan)
    for node in broken_joins(subject.graph, mask):
        raise PlanError(
            f"$.hyperedges: {node} would carry a channel that nobody writes, or drop one that a "
            "branch writes for it alone"
        )
    check_zeroed(subject, plan)
    expected = weight_slices(subject.graph, mask)
    for name in sorted({*expected, *plan.weights}):
        if dict(expected.get(name, {})) != dict(plan.weights.get(name, {})):
            raise PlanError(f"$.weights[{name!r}]: does not follow from the hyperedges")
    check_blocks(subject, plan)
    _check_costs(subject, slicing(subject, plan))


def require_digest(subject: Subject, plan: Plan) -> None:
    """Raise PlanError unless the plan was made for this graph."""
    if plan.graph_sha256 != subject.digest:
        raise PlanError(
            f"$.graph_sha256: the plan was made for another model ({plan.graph_sha256[:12]}..., "
            f"this one is {subject.digest[:12]}...)"
        )


def _check_costs(subject: Subject, plan: Plan) -> None:
    """Hold costs and budget against the model's own costs."""
    counts = plan.counts(subject.graph)
    for resource, cost in subject.graph.costs.items():
        true = (cost(subject.graph.dense()), cost(counts))
        if resource not in plan.costs and resource in OF_ACTIVATIONS:
            continue  # the plan was made before these were counted
        if plan.costs.get(resource) != true:
            raise PlanError(
                f"$.costs[{resource!r}]: is {plan.costs.get(resource)}, but the model costs {true}"
            )
    for resource in plan.costs:
        if resource not in subject.graph.costs and resource not in MEASURED:
            raise PlanError(f"$.costs[{resource!r}]: unknown resource")
    for resource, limit in plan.budget.items():
        if resource not in plan.costs:
            raise PlanError(f"$.budget[{resource!r}]: unknown resource")
        if plan.costs[resource][1] > limit:
            raise PlanError(f"$.budget[{resource!r}]: {plan.costs[resource][1]} exceeds {limit}")


def _check_sets(subject: Subject, plan: Plan) -> None:
    """Hold what is kept against what may be kept: positions of kernels, and 0 of branches."""
    graph = subject.graph
    for e, subsets in graph.subsets.items():
        name = graph.edges[e].name
        kept = plan.hyperedges[name].positions
        if kept and kept not in subsets:
            raise PlanError(
                f"$.hyperedges[{name!r}].kept: no convolution can have these positions alone"
            )
    empty = {e for e, count in enumerate(plan.counts(graph)) if not count}
    for branch in graph.branches:
        if empty.issuperset(branch):
            empty -= set(branch)
    if empty:
        name = graph.edges[min(empty)].name
        raise PlanError(f"$.hyperedges[{name!r}].kept: at least one channel group must stay")

"""From a sliced model and the blocks of a plan to a model with grouped convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.errors import PlanError, VerificationError
from prunec.compiler.freedom import Freedom
from prunec.compiler.hypergraph import Axis
from prunec.compiler.partition import REMOVED, Partition
from prunec.compiler.plan import Plan
from prunec.frontends.calls import with_calls
from prunec.passes.recovery.storage import tensor_of
from prunec.passes.regroup.mask import masked
from prunec.passes.regroup.permute import sources
from prunec.passes.regroup.rewrite import regroup
from prunec.passes.regroup.sites import stored_values
from prunec.runtime.subject import Subject, reopened

# Another order is exact wherever the channels are treated alike, norms and softmax included.
PERMUTING = Freedom(residual=True)


@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """What became of a masked model. gathers: names of the nodes that move channels.

    costs: resource -> what the model costs, counted on its own graph.
    """

    model: ir.Model
    gathers: tuple[str, ...]
    costs: Mapping[str, int]


def slicing(subject: Subject, plan: Plan) -> Plan:
    """The part of a plan that slicing carries out, with what that costs; no limits."""
    return slicing_alone(subject, plan) if plan.groups or plan.bits else plan


def slicing_alone(subject: Subject, plan: Plan) -> Plan:
    """The same for a plan whose costs may count what its groups and bits are going to be."""
    dense, counts = subject.graph.dense(), plan.counts(subject.graph)
    costs = {name: (cost(dense), cost(counts)) for name, cost in subject.graph.costs.items()}
    return replace(plan, groups={}, bits={}, costs=costs, budget={})


def blocks_of(plan: Plan) -> dict[str, Partition]:
    """The partitions of a plan over the axes of the sliced model."""
    return {name: partition.sliced() for name, partition in plan.groups.items()}


def mask_blocks(plan: Plan, sliced: ir.Model) -> ir.Model:
    """The sliced model with zeros off the blocks of the plan; itself where there are none.

    Raises PlanError.
    """
    return masked(sliced, blocks_of(plan)) if plan.groups else sliced


def require_masked(plan: Plan, model: ir.Model) -> None:
    """Raise VerificationError where a recovery wrote something off the blocks of the plan."""
    stored = stored_values(model)
    for name, partition in blocks_of(plan).items():
        tensor = tensor_of(stored[name])
        assert tensor is not None, name
        if tensor.numpy()[~partition.mask()].any():
            raise VerificationError(
                f"the recovery wrote weights off the groups of {name}, which grouped convolutions "
                "do not have"
            )


def regrouped(subject: Subject, plan: Plan, model: ir.Model) -> Grouped:
    """The masked model, recovered or not, with grouped convolutions. Raises PlanError."""
    slim = reopened(model, subject, PERMUTING)
    found = regroup(slim.model, slim.facts, slim.graph, blocks_of(plan))
    own = reopened(found.model, subject)
    costs = {name: cost(own.graph.dense()) for name, cost in own.graph.costs.items()}
    return Grouped(with_calls(found.model, subject.model), found.gathers, costs)


def moved_axes(subject: Subject, plan: Plan) -> dict[Axis, NDArray[np.int64]]:
    """Axis of a value -> which of the kept channels stands where in the grouped model.

    Axes whose channels stay in order are not there. Raises PlanError.
    """
    if not plan.groups:
        return {}
    from prunec.runtime.compile import apply_plan

    slim = reopened(apply_plan(subject, plan), subject, PERMUTING)
    order = regroup(slim.model, slim.facts, slim.graph, blocks_of(plan)).order
    takes = {axis: sources(groups, order) for axis, groups in slim.graph.axes.items()}
    return {axis: take for axis, take in takes.items() if (take != np.arange(len(take))).any()}


def check_blocks(subject: Subject, plan: Plan) -> None:
    """Hold the blocks of a plan against what it keeps of their weights. Raises PlanError."""
    for name, partition in plan.groups.items():
        shape = subject.facts.shapes.get(name)
        sizes = (len(partition.outputs), len(partition.inputs))
        if shape is None or tuple(shape[:2]) != sizes:
            raise PlanError(
                f"$.groups[{name!r}]: is for {sizes[0]} outputs and {sizes[1]} inputs, the model "
                f"has {'no such weight' if shape is None else f'{shape[0]} and {shape[1]}'}"
            )
        for axis, ids in enumerate((partition.outputs, partition.inputs)):
            kept = plan.weights.get(name, {}).get(axis, tuple(range(sizes[axis])))
            here = tuple(k for k, group in enumerate(ids) if group != REMOVED)
            if here != tuple(kept):
                raise PlanError(
                    f"$.groups[{name!r}]: not every channel that axis {axis} keeps is in one group"
                )


def require_costs(plan: Plan, found: Grouped) -> None:
    """Hold the costs in a plan, and its budget, against those of the model. Raises PlanError."""
    for resource, (_, claimed) in plan.costs.items():
        # Bits are not in the model yet; latencies are not counted.
        known = resource in found.costs and not (plan.bits and resource == "bytes")
        true = found.costs[resource] if known else claimed
        if true != claimed:
            raise PlanError(f"$.costs[{resource!r}]: is {claimed}, but the model costs {true}")
        if true > plan.budget.get(resource, true):
            raise PlanError(f"$.budget[{resource!r}]: {true} exceeds {plan.budget[resource]}")

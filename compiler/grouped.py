"""What a plan says of grouped convolutions, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

import numpy as np
import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.diagnostics import Diagnostic, Severity
from prunec.compiler.ops import op_key
from prunec.compiler.partition import REMOVED
from prunec.compiler.plan import Plan
from prunec.compiler.ranges import ranges
from prunec.compiler.walk import nodes

KEY = "grouping"  # in Plan.options
DENSE = "stays_dense"  # below that: weight -> why


@dataclass(frozen=True, slots=True)
class GroupedLayer:
    """A weight of `outputs` by `inputs` channels in so many groups.

    kept: share of its scores that lies in the blocks, None where that was not recorded.
    """

    weight: str
    groups: int
    outputs: int
    inputs: int
    kept: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "weight": self.weight,
            "groups": self.groups,
            "outputs": self.outputs,
            "inputs": self.inputs,
            "kept": self.kept,
        }


def grouped_layers(plan: Plan) -> tuple[GroupedLayer, ...]:
    """By name of the weight."""
    shares = recorded(plan).get("kept")
    layers = []
    for name, partition in sorted(plan.groups.items()):
        share = shares.get(name) if isinstance(shares, dict) else None
        outputs, inputs = (
            sum(g != REMOVED for g in ids) for ids in (partition.outputs, partition.inputs)
        )
        number = isinstance(share, int | float) and not isinstance(share, bool)
        kept = float(share) if number and share is not None else None
        layers.append(GroupedLayer(name, partition.groups, outputs, inputs, kept))
    return tuple(layers)


def recorded(plan: Plan) -> dict[str, Any]:
    """What `Plan.options` holds of groups: how they were chosen, kept shares, Gathers left."""
    found = plan.options.get(KEY)
    return found if isinstance(found, dict) else {}


def gathers_left(plan: Plan) -> tuple[str, ...] | None:
    """Names of the Gathers that could not be folded, None where that was not recorded."""
    found = recorded(plan).get("gathers")
    if not isinstance(found, list):
        return None
    return tuple(map(str, found))


def stays_dense(plan: Plan) -> tuple[Diagnostic, ...]:
    """A word for every convolution that was to get groups and could not."""
    found = recorded(plan).get(DENSE)
    told = found.items() if isinstance(found, dict) else ()
    return tuple(Diagnostic("not-grouped", str(k), str(v), Severity.INFO) for k, v in told)


def mean_kept(layers: Sequence[GroupedLayer]) -> float | None:
    """The mean of the kept shares that are known."""
    known = [layer.kept for layer in layers if layer.kept is not None]
    return fsum(known) / len(known) if known else None


def blocks_in_words(plan: Plan, weight: str, axis: int) -> list[str]:
    """Lines that say which channels of a weight's axis the plan puts into which group."""
    partition = plan.groups.get(weight)
    if partition is None or axis > 1:
        return [f"the plan puts the channels of {weight}:{axis} into no groups"]
    ids, others = partition.outputs, partition.inputs
    verb = "read inputs"
    if axis == 1:
        ids, others, verb = others, ids, "are read by outputs"
    lines = [f"the plan puts them into {partition.groups} groups:"]
    for g in range(partition.groups):
        own, rest = (ranges(np.flatnonzero(np.array(x) == g).tolist()) for x in (ids, others))
        lines.append(f"    group {g}: {own} {verb} {rest}")
    removed = ranges(np.flatnonzero(np.array(ids) == REMOVED).tolist())
    return [*lines, f"    removed: {removed}"] if removed else lines


def groups_in_words(model: ir.Model, weight: str, axis: int) -> list[str]:
    """A line for every grouped convolution that reads this weight, where the axis has groups."""
    lines = []
    for node in nodes(model.graph):
        value = node.inputs[1] if op_key(node) == "Conv" and len(node.inputs) > 1 else None
        groups = int(attribute(node, "group", 1)) if value is not None else 1
        if value is None or value.name != weight or groups == 1 or axis > 1:
            continue
        size = value.shape[axis] if value.shape is not None else None
        if not isinstance(size, int):
            continue
        if axis == 0:
            own = f"{size // groups} outputs each, one group behind the other"
        else:
            own = f"every output reads the {size} inputs of its own group"
        lines.append(f"{node.op_type} {node.name} has {groups} groups: {own}")
    return lines

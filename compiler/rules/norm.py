"""Normalisation: exact where statistics are per channel, frozen where they run over channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.site import Rule, Site


def per_channel(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x (N, C, *S)`` and parameters (C,): BatchNormalization, InstanceNormalization."""
    x = ins[0]
    if len(x) == 1:  # BatchNormalization of a vector: one channel
        return [x, *ins[3:]]
    for parameters in ins[1:]:
        c.tie(parameters[0], x[1], "parameters of the norm")
    if site.node.op_type == "BatchNormalization":
        c.auxiliary |= {(site.node.name or "", 3), (site.node.name or "", 4)}
        if site.attr("training_mode", 0):
            # Weight standardisation is written so, over (1, C, fan-in) of a weight.
            for labels in (x[0], *x[2:]):
                c.freeze(labels, "inexact: batch statistics run over it")
            return [x, ins[3], ins[4]][: len(site.node.outputs)]
    else:
        for labels in x[2:]:
            c.freeze(labels, "statistics of InstanceNormalization run over it")
    return [x, *ins[1:]][: len(site.node.outputs)]


def group_norm(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Whole groups may leave; within one the statistics would change. Parameters: (G,) or (C,)."""
    x, *parameters = ins
    groups = site.attr("num_groups")
    blocks = x[1].reshape(groups, -1)
    c.tie(blocks, blocks[:, :1], "statistics of GroupNormalization run over a group")
    for p in parameters:
        if len(p[0]) == len(x[1]):
            c.tie(p[0], x[1], "parameters of the norm")
        else:
            c.tie(p[0], blocks[:, 0], "parameters of the norm")
    for labels in x[2:]:
        c.freeze(labels, "statistics of GroupNormalization run over it")
    c.resize("num_groups", groups, {0: blocks[:, 0]})
    return [x]


def over_axes(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Statistics over the last axes: removing a channel would change them, so they stay."""
    x, *parameters = ins
    first = site.axis(-1)
    for labels in x[first:]:
        c.freeze(labels, f"inexact: statistics of {site.node.op_type} run over it")
    for p in parameters:
        for labels in p:
            c.freeze(labels, f"inexact: statistics of {site.node.op_type} run over it")
    reduced = tuple(labels if k < first else c.frozen(1) for k, labels in enumerate(x))
    return [x, reduced, reduced][: len(site.node.outputs)]


def along_axis(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Softmax and its kin: every index on the axis sees all the others."""
    x = ins[0]
    default = -1 if site.opset >= 13 or site.node.op_type == "LpNormalization" else 1
    axis = site.axis(default)
    # Before opset 13, Softmax flattened everything from the axis on.
    span = x[axis:] if default == 1 else x[axis : axis + 1]
    for labels in span:
        c.freeze(labels, f"inexact: {site.node.op_type} mixes it")
    return [x]


def local_response(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """LRN divides by a sum over neighbouring channels."""
    c.freeze(ins[0][1], "inexact: LRN mixes neighbouring channels")
    return [ins[0]]


def mean_variance(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """MeanVarianceNormalization: statistics over `axes`."""
    axes = site.axes(default=(0, 2, 3))
    mixed: list[Labels] = [ins[0][a] for a in axes]
    for labels in mixed:
        c.freeze(labels, "inexact: statistics of MeanVarianceNormalization run over it")
    return [ins[0]]


RULES: Mapping[str, Rule] = {
    "BatchNormalization": per_channel,
    "GroupNormalization": group_norm,
    "Hardmax": along_axis,
    "InstanceNormalization": per_channel,
    "LRN": local_response,
    "LayerNormalization": over_axes,
    "LogSoftmax": along_axis,
    "LpNormalization": along_axis,
    "MeanVarianceNormalization": mean_variance,
    "RMSNormalization": over_axes,
    "Softmax": along_axis,
}

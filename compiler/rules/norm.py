"""Normalisation: exact where statistics are per channel, inexact where they run over channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.reasons import Reason
from prunec.compiler.site import Rule, Site, Unsupported


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
                c.freeze(labels, Reason.NORM_STATISTICS, "batch statistics run over it")
            return [x, ins[3], ins[4]][: len(site.node.outputs)]
    else:
        for labels in x[2:]:
            text = "statistics of InstanceNormalization run over it"
            c.inexact(labels, Reason.NORM_STATISTICS, text)
    return [x, *ins[1:]][: len(site.node.outputs)]


def group_norm(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x (N, C, *S)``, parameters (G,) or (C,); ONNX GroupNormalization.

    Whole groups may leave. The same position of every group may leave too, which changes the
    statistics of what stays.
    """
    x, *parameters = ins
    groups = site.attr("num_groups", 0)
    if groups < 1 or len(x[1]) % groups:
        raise Unsupported(f"{groups} groups of {len(x[1])} channels")
    outer, inner = c.fresh(groups), c.fresh(len(x[1]) // groups)
    c.factor(x[1], (outer, inner))
    text = "statistics of GroupNormalization run over a group"
    c.inexact(inner, Reason.NORM_STATISTICS, text)
    for p in parameters:
        whole = len(p[0]) == len(x[1])
        c.tie(p[0], x[1] if whole else outer, "parameters of the norm")
    for labels in x[2:]:
        c.freeze(labels, Reason.SPATIAL_AXIS, text)
    c.resize("num_groups", groups, {0: outer})
    return [x]


def over_axes(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Statistics over the last axes, from `axis` on: LayerNormalization, RMSNormalization."""
    x, *parameters = ins
    first = site.axis(-1)
    for p in parameters:
        for labels, own in zip(reversed(p), reversed(x), strict=False):
            if len(labels) > 1:
                c.tie(labels, own, "parameters of the norm")
    for labels in x[first:]:
        text = f"statistics of {site.node.op_type} run over it"
        c.inexact(labels, Reason.NORM_STATISTICS, text)
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
        c.inexact(labels, Reason.SOFTMAX_AXIS, f"{site.node.op_type} runs over it")
    return [x]


def local_response(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """LRN divides by a sum over neighbouring channels."""
    c.freeze(ins[0][1], Reason.ORDERED_AXIS, "LRN mixes neighbouring channels")
    return [ins[0]]


def mean_variance(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """MeanVarianceNormalization: statistics over `axes`."""
    axes = site.axes(default=(0, 2, 3))
    mixed: list[Labels] = [ins[0][a] for a in axes]
    for labels in mixed:
        text = "statistics of MeanVarianceNormalization run over it"
        c.inexact(labels, Reason.NORM_STATISTICS, text)
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

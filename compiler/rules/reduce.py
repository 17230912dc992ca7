"""Operators that mix the indices of an axis: pools, resizing, reductions, running sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunec.compiler.labels import AxisLabels, Coupler
from prunec.compiler.reasons import Reason
from prunec.compiler.site import Rule, Site


def spatial(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Pools, global pools and resizing: batch and channels pass, space is mixed.

    Resizing leaves an axis alone when its size stays, wherever the channels are (NHWC).
    """
    x = ins[0]
    for position, extra in enumerate(ins[1:], 1):
        c.auxiliary.add((site.node.name or "", position))
        for labels in extra:
            c.freeze(
                labels, Reason.SPATIAL_AXIS, f"sizes, scales or positions of {site.node.op_type}"
            )
    out = []
    resizing = site.node.op_type in ("Resize", "Upsample")
    crops = site.attr("coordinate_transformation_mode") == "tf_crop_and_resize"
    for k, (labels, size) in enumerate(zip(x, site.out_shapes[0], strict=True)):
        if (k < 2 or (resizing and not crops)) and size == len(labels):
            out.append(labels)
        else:
            c.freeze(labels, Reason.SPATIAL_AXIS, f"a spatial axis of {site.node.op_type}")
            out.append(c.frozen(size))
    if site.node.op_type == "Resize" and site.has(3):
        sizes = site.constants[3]
        if sizes is None and site.in_shapes[3] == (len(x),):
            # A channel count that is computed from data can't follow.
            for labels in x:
                c.freeze(labels, Reason.DYNAMIC_SHAPE, "sizes of a Resize depend on the data")
        elif sizes is not None and sizes.size == len(x):
            c.resize(3, sizes, dict(enumerate(out)))
    if site.node.op_type == "MaxPool":
        _keep_places(site, x, c)
    return [tuple(out)] * len(site.node.outputs)


def _keep_places(site: Site, x: AxisLabels, c: Coupler) -> None:
    """Indices of a MaxPool count through all channels: only a MaxUnpool may see them change."""
    places = site.node.outputs[1] if len(site.node.outputs) > 1 else None
    if places is None or not places.name:
        return
    unpooled = all(user.op_type == "MaxUnpool" for user, _ in places.uses())
    if places.is_graph_output() or not unpooled:
        for labels in x[:2]:
            c.freeze(labels, Reason.ORDERED_AXIS, "indices of a MaxPool count through it")


def reduce_sum(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Sums of channels: a gated channel adds nothing, so the axis may shrink.

    Gating zeroes float activations only: a count, or the norm of a weight, must not lose terms.
    """
    return _reduce(site, ins, c, exact=True)


def reduce_other(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Mean, maximum, product, ...: a gated channel would count, so the axis stays."""
    return _reduce(site, ins, c, exact=False)


def _reduce(site: Site, ins: Sequence[AxisLabels], c: Coupler, exact: bool) -> Sequence[AxisLabels]:
    x = ins[0]
    axes = site.axes()
    if not axes and site.attr("noop_with_empty_axes", 0):
        return [x]
    out = []
    for k, labels in enumerate(x):
        if axes and k not in axes:
            out.append(labels)
            continue
        if exact and site.gated(0):
            c.read(labels)
        else:
            c.inexact(labels, Reason.REDUCED_AXIS, f"{site.node.op_type} runs over it")
        if site.attr("keepdims", 1):
            out.append(c.frozen(1))
    return [tuple(out)]


def arg_reduce(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """ArgMax, ArgMin: the result is a position on the axis."""
    axis = site.axis(0)
    c.freeze(ins[0][axis], Reason.ORDERED_AXIS, f"{site.node.op_type} returns positions on it")
    out = [labels if k != axis else c.frozen(1) for k, labels in enumerate(ins[0])]
    return [tuple(out if site.attr("keepdims", 1) else out[:axis] + out[axis + 1 :])]


def along(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """CumProd, CumSum, TopK: one axis is mixed, the others pass."""
    if site.node.op_type != "TopK":
        axis = int(site.constant(1, "axis").reshape(-1)[0]) % site.rank
    else:
        axis = site.axis(-1)
    c.freeze(ins[0][axis], Reason.ORDERED_AXIS, f"{site.node.op_type} runs along it")
    size = site.out_shapes[0][axis]
    out = tuple(c.frozen(size) if k == axis else x for k, x in enumerate(ins[0]))
    return [out] * len(site.node.outputs)


SPATIAL = (
    "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample LpPool MaxPool Resize "
    "Upsample"
)
EXACT = "ReduceL1 ReduceL2 ReduceSum ReduceSumSquare"
INEXACT = "ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd"

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(SPATIAL.split(), spatial),
    **dict.fromkeys(EXACT.split(), reduce_sum),
    **dict.fromkeys(INEXACT.split(), reduce_other),
    "ArgMax": arg_reduce,
    "ArgMin": arg_reduce,
    "CumProd": along,
    "CumSum": along,
    "TopK": along,
}

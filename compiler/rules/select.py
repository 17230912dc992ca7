"""Operators that pick and place elements by computed positions: the axes beside those pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.reasons import Reason
from prunec.compiler.rules.indexing import free_rows
from prunec.compiler.site import Rule, Site


def keep(site: Site, c: Coupler, axes: Iterable[Labels], what: str) -> None:
    """Freeze axes along which positions are data."""
    for labels in axes:
        c.freeze(labels, Reason.ORDERED_AXIS, f"{site.node.op_type}: {what}")


def gather_nd(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``data (*B, *D, *R), indices (*B, *P, len(D)) -> (*B, *P, *R)``; B has `batch_dims` axes."""
    data, indices = ins
    batch = site.attr("batch_dims", 0)
    first = batch + len(indices[-1])
    for mine, theirs in zip(data[:batch], indices[:batch], strict=True):
        c.tie(mine, theirs, "batch axes of a GatherND")
    keep(site, c, (*data[batch:first], indices[-1]), "an axis that is indexed")
    free_rows(site, data[first:], c)
    return [(*indices[:-1], *data[first:])]


def gather_elements(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``out[i][j] = data[indices[i][j]][j]``: beside the axis both have the same channels."""
    data, indices = ins
    axis = site.axis(0)
    keep(site, c, [data[axis]], "an axis that is indexed")
    return [_beside(site, indices, data, axis, c)]


def _beside(site: Site, x: AxisLabels, data: AxisLabels, axis: int, c: Coupler) -> AxisLabels:
    """Tie `x` and `data` beside `axis`; where `x` stops earlier, both stay."""
    for k, (mine, theirs) in enumerate(zip(x, data, strict=True)):
        if k != axis and len(mine) == len(theirs):
            c.tie(mine, theirs, f"axes beside that of a {site.node.op_type}")
        elif k != axis:
            keep(site, c, (mine, theirs), "only the first positions are read")
    return x


def scatter_elements(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``data[indices[i][j]][j] = updates[i][j]``; ScatterElements and the older Scatter."""
    data, indices, updates = ins
    axis = site.axis(0)
    keep(site, c, (data[axis], indices[axis], updates[axis]), "an axis that is indexed")
    _beside(site, indices, data, axis, c)
    _beside(site, updates, indices, axis, c)
    return [data]


def scatter_nd(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``data (*D, *R), indices (*P, len(D)), updates (*P, *R) -> data's shape``."""
    data, indices, updates = ins
    depth, places = len(indices[-1]), len(indices) - 1
    keep(site, c, (*data[:depth], *indices, *updates[:places]), "an axis that is indexed")
    for mine, theirs in zip(data[depth:], updates[places:], strict=True):
        c.tie(mine, theirs, "axes behind those of a ScatterND")
    return [data]


def tensor_scatter(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``cache (B, *, S, *), update (B, *, s, *), places (B,) -> cache's shape``."""
    cache, update, *places = ins
    axis = site.axis(-2)
    keep(site, c, (cache[0], cache[axis], update[axis]), "an axis that is indexed")
    keep(site, c, (labels for x in places for labels in x), "places in a cache")
    _beside(site, update, cache, axis, c)
    return [cache]


def compress(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Positions of one axis where a condition holds; without an axis, of all elements."""
    x, condition = ins
    axes = range(len(x)) if site.attr("axis") is None else [site.axis(0)]
    keep(site, c, (*condition, *(x[k] for k in axes)), "an axis from which a condition picks")
    if site.attr("axis") is None:
        return [(c.frozen(site.out_shapes[0][0]),)]
    return [_with(x, axes[0], c.frozen(site.out_shapes[0][axes[0]]))]


def one_hot(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Indices get a new axis, along which classes are positions."""
    rank = len(ins[0]) + 1
    axis = int(site.attr("axis", -1)) % rank
    return [(*ins[0][:axis], c.frozen(site.out_shapes[0][axis]), *ins[0][axis:])]


def trilu(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """A triangle of the last two axes."""
    keep(site, c, ins[0][-2:], "rows and columns of a triangle")
    return [ins[0]]


def reverse_sequence(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Each sequence of the batch is reversed up to its own length."""
    x, lengths = ins
    time, batch = site.attr("time_axis", 0), site.attr("batch_axis", 1)
    keep(site, c, (x[time], x[batch], *lengths), "time and batch of a sequence")
    return [x]


def center_crop_pad(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Axes that change their size stay; the literal sizes of the others follow."""
    x, shape = ins[0], site.positions(1)
    axes = [int(a) % len(x) for a in site.attr("axes", range(len(x)))]
    changed = {k for k in axes if shape is None or len(x[k]) != site.out_shapes[0][k]}
    keep(site, c, (x[k] for k in sorted(changed)), "an axis that is cropped or padded")
    out = list(x)
    for k in changed:
        out[k] = c.frozen(site.out_shapes[0][k])
    if shape is not None:
        c.resize(1, shape, {i: out[k] for i, k in enumerate(axes)})
    return [tuple(out)]


def _with(x: AxisLabels, axis: int, labels: Labels) -> AxisLabels:
    return (*x[:axis], labels, *x[axis + 1 :])


RULES: Mapping[str, Rule] = {
    "CenterCropPad": center_crop_pad,
    "Compress": compress,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "OneHot": one_hot,
    "ReverseSequence": reverse_sequence,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
    "Trilu": trilu,
}

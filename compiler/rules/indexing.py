"""Operators that join, cut, pick and pad: positions on an axis change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.constants import axes_of, slices_of, split_sizes
from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.reasons import Reason
from prunec.compiler.site import Rule, Site, is_frozen


def concat(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Labels of the inputs one after the other; the other axes are tied."""
    axis = int(site.attr("axis", 1)) % len(site.out_shapes[0])
    # A legacy "empty" input of rank 1 and size 0 takes part in no shape.
    parts = [x for x, shape in zip(ins, site.in_shapes, strict=True) if len(x) == len(shape) > 0]
    out = [np.concatenate([x[axis] for x in parts])]
    sides = [x[:axis] + x[axis + 1 :] for x in parts]
    for side in sides[1:]:
        for mine, theirs in zip(sides[0], side, strict=True):
            c.tie(mine, theirs, "axes beside a Concat")
    return [(*sides[0][:axis], *out, *sides[0][axis:])]


def split(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Consecutive pieces of the axis; sizes become explicit when they change."""
    x, axis = ins[0], site.axis(0)
    if site.has(1) and site.positions(1) is None:
        c.freeze(x[axis], Reason.DYNAMIC_SHAPE, "an axis that a Split cuts by data")
        rest = [shape[axis] for shape in site.out_shapes]
        return [(*x[:axis], c.frozen(n, Reason.DYNAMIC_SHAPE), *x[axis + 1 :]) for n in rest]
    sizes = split_sizes(site.node, site.constants, len(x[axis]))
    pieces = np.split(x[axis], np.cumsum(sizes)[:-1])
    key: str | int = "split" if site.opset < 13 else 1
    c.resize(key, np.array(sizes), dict(enumerate(pieces)), drop=("num_outputs",))
    return [(*x[:axis], piece, *x[axis + 1 :]) for piece in pieces]


def slice_(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """A range of each named axis; bounds follow what is kept before them."""
    x = ins[0]
    known = [site.positions(k) for k in range(len(ins))]
    cut = slices_of(site.node, known, len(x))
    if cut is None:
        return [_cut_by_data(site, x, known[3:4], c)]
    out = list(x)
    bounds: dict[int, tuple[int, int]] = {}
    whole = {k: slice(*window.indices(len(x[k]))) for k, window in cut.items()}
    cutting = [k for k, window in whole.items() if window != slice(0, len(x[k]), 1)]
    for axis, window in cut.items():
        labels = x[axis]
        out[axis] = labels[window]
        if is_frozen(labels) or window == slice(None):
            continue
        start, stop, step = window.indices(len(labels))
        if step == 1:
            bounds[axis] = (start, max(start, stop))
        elif cutting == [axis]:
            c.reindex(None, axis, labels, np.arange(len(labels))[window], (out[axis],))
        else:
            c.freeze(labels, Reason.UNSUPPORTED_FORM, "a strided Slice over several axes")
    _resize_bounds(site, x, cut, bounds, c)
    return [tuple(out)]


def _cut_by_data(
    site: Site, x: AxisLabels, known: Sequence[NDArray[Any] | None], c: Coupler
) -> AxisLabels:
    """Bounds that depend on the data: the axes that they may cut stay, the others pass."""
    if known and known[0] is not None:
        axes = {int(a) % len(x) for a in known[0].reshape(-1)}
    else:
        axes = set(range(site.in_shapes[1][0] if not site.has(3) else len(x)))
    out = []
    for k, (labels, size) in enumerate(zip(x, site.out_shapes[0], strict=True)):
        if k in axes or size != len(labels):
            c.freeze(labels, Reason.DYNAMIC_SHAPE, "an axis that a Slice cuts by data")
            out.append(c.frozen(size, Reason.DYNAMIC_SHAPE))
        else:
            out.append(labels)
    return tuple(out)


def _resize_bounds(
    site: Site,
    x: AxisLabels,
    cut: Mapping[int, slice],
    bounds: Mapping[int, tuple[int, int]],
    c: Coupler,
) -> None:
    """Write bounds as kept counts: start = kept before it, end = kept before the end."""
    if not bounds:
        return
    order = list(cut)
    starts = np.array([cut[a].start for a in order])
    ends = np.array([-(2**31) if cut[a].stop is None else cut[a].stop for a in order])
    old = not site.has(1)
    for key, values, side in (
        ("starts" if old else 1, starts, 0),
        ("ends" if old else 2, ends, 1),
    ):
        elements = {}
        for axis, pair in bounds.items():
            k = order.index(axis)
            at_edge = pair[side] in (0, len(x[axis])) and _open(int(values[k]))
            if not at_edge:
                elements[k] = x[axis][: pair[side]]
                values[k] = pair[side]
        c.resize(key, values, elements)


def _open(bound: int) -> bool:
    """Whether a bound says "from the start" or "to the end" whatever the size."""
    return bound == 0 or bound >= 2**31 - 1 or bound <= -(2**31) + 1


def gather(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """Constant indices pick labels; other indices need the whole axis."""
    x, indices = ins[:2]
    axis = site.axis(0)
    labels, picked = x[axis], site.positions(1)
    if picked is None or is_frozen(labels):
        c.freeze(labels, Reason.DYNAMIC_SHAPE, "an axis that a Gather indexes by data")
        free_rows(site, (*x[:axis], *x[axis + 1 :]), c)
        return [(*x[:axis], *indices, *x[axis + 1 :])]
    positions = picked.astype(np.int64) % len(labels)
    if positions.ndim == 0:
        c.freeze(labels[positions], Reason.SINGLE_CHANNEL, "a channel that is read by itself")
        c.reindex(1, axis, labels, positions, ())
        return [(*x[:axis], *x[axis + 1 :])]
    new: AxisLabels
    if positions.ndim == 1:
        new = (labels[positions],) if positions.size > 1 else (_alone(labels[positions], c),)
    else:
        new = tuple(c.fresh(n) if n > 1 else c.frozen(n) for n in positions.shape)
        c.factor(labels[positions].reshape(-1), new)
    c.reindex(1, axis, labels, positions, new)
    return [(*x[:axis], *new, *x[axis + 1 :])]


def free_rows(site: Site, beside: Iterable[Labels], c: Coupler) -> None:
    """Rows of a stored table that data picks (an embedding) are made by a weight, too."""
    floats = all(site.floats[:1])
    if floats and site.weights[0] and not site.weights[1]:
        for labels in beside:
            c.free(labels)


def _alone(labels: Labels, c: Coupler) -> Labels:
    c.freeze(labels, Reason.SINGLE_CHANNEL, "a channel that is read by itself")
    return c.frozen(len(labels))


def pad(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """New zero channels at both ends; amounts follow kept counts. Copied or by data: frozen.

    A Pad that only crops one axis takes a window of its labels.
    """
    x = ins[0]
    mode = site.attr("mode", "constant")
    key: str | int = 1 if site.has(1) else "pads" if "pads" in site.node.attributes else "paddings"
    c.auxiliary.add((site.node.name or "", 2))
    amounts = site.positions(1) if site.has(1) else np.array(site.attr(str(key), ()))
    axes = tuple(a % len(x) for a in axes_of(site.node, site.constants, 3)) or range(len(x))
    if amounts is None:
        return [_padded_by_data(site, x, axes, c)]
    half = amounts.size // 2
    cropped = _crop(axes, amounts.reshape(2, half).tolist(), x)
    if cropped is not None:
        axis, window = cropped
        out = [labels[window] if k == axis else labels for k, labels in enumerate(x)]
        c.reindex(None, axis, x[axis], np.arange(len(x[axis]))[window], (out[axis],))
        return [tuple(out)]
    out = list(x)
    elements: dict[int, Labels] = {}
    for k, axis in enumerate(axes):
        before, after = int(amounts.reshape(-1)[k]), int(amounts.reshape(-1)[k + half])
        labels = x[axis]
        if not before and not after:
            continue
        if is_frozen(labels) or mode != "constant" or min(before, after) < 0:
            c.freeze(labels, Reason.ORDERED_AXIS, f"padded in mode {mode}")
            out[axis] = c.frozen(site.out_shapes[0][axis])
            continue
        ends = c.fresh(before), c.fresh(after)
        out[axis] = np.concatenate([ends[0], labels, ends[1]])
        elements |= {k: ends[0], k + half: ends[1]}
    c.resize(key, amounts, elements)
    return [tuple(out)]


def _padded_by_data(site: Site, x: AxisLabels, axes: Iterable[int], c: Coupler) -> AxisLabels:
    out = list(x)
    for k in axes:
        c.freeze(x[k], Reason.DYNAMIC_SHAPE, "an axis that a Pad extends by data")
        out[k] = c.frozen(site.out_shapes[0][k], Reason.DYNAMIC_SHAPE)
    return tuple(out)


def _crop(
    axes: Sequence[int], amounts: Sequence[Sequence[int]], x: AxisLabels
) -> tuple[int, slice] | None:
    """Axis and window of a Pad that takes from one axis and adds nowhere, else None."""
    changed = [(k, a, b) for k, a, b in zip(axes, *amounts, strict=True) if a or b]
    if len(changed) != 1 or max(changed[0][1:]) > 0 or is_frozen(x[changed[0][0]]):
        return None
    axis, before, after = changed[0]
    return axis, slice(-before, len(x[axis]) + after)


RULES: Mapping[str, Rule] = {
    "Concat": concat,
    "Gather": gather,
    "Pad": pad,
    "Slice": slice_,
    "Split": split,
}

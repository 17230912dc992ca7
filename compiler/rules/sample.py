"""Operators that read an image at positions, and their kin of signal processing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.reasons import Reason
from prunec.compiler.rules.contraction import conv
from prunec.compiler.site import Rule, Site, stay


def _keep(site: Site, c: Coupler, axes: Iterable[Labels], what: str = "positions") -> None:
    for labels in axes:
        c.freeze(labels, Reason.SPATIAL_AXIS, f"{what} of {site.node.op_type}")


def regions(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x (N, C, H, W), boxes (R, 4 or 5), ... -> (R, C, h, w)``; RoiAlign, MaxRoiPool."""
    x, boxes, *images = ins
    _keep(site, c, (x[0], *x[2:]), "images")
    _keep(site, c, (*boxes, *(labels for own in images for labels in own)), "boxes")
    return [(boxes[0], x[1], *stay(site.out_space, c))]


def deform_conv(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x, w as Conv, offset (N, 2*G*K, *S'), bias, mask (N, G*K, *S')``; ONNX DeformConv.

    G offset groups share the channels evenly: the same position leaves every one of them.
    """
    x, w, offset, bias, mask = (*ins, (), ())[:5]
    _keep(site, c, (*offset, *mask), "offsets and masks")
    blocks = x[1].reshape(site.attr("offset_group", 1), -1)
    c.tie(blocks, blocks[0], "same position in every offset group")
    return conv(site, [x, w, bias] if bias else [x, w], c)


def max_unpool(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x, places (N, C, *S) -> (N, C, *S')``: places count through the whole unpooled tensor.

    They follow by themselves where a MaxPool over the same channels makes them.
    """
    x, places = ins[:2]
    for mine, theirs in zip(x[:2], places[:2], strict=True):
        c.tie(mine, theirs, "values and their places")
    _keep(site, c, (*x[2:], *places[2:]))
    value = site.node.inputs[1]
    maker = value.producer() if value is not None else None
    if maker is None or maker.op_type != "MaxPool":
        _keep(site, c, x[:2], "computed places")
    if site.has(2):
        c.resize(2, site.constant(2, "sizes"), {0: x[0], 1: x[1]})
    return [(x[0], x[1], *stay(site.out_space, c))]


def col2im(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``(N, C * block, L) -> (N, C, *image)``: a channel leaves with all of its block."""
    x = ins[0]
    rows = x[1].reshape(site.out_shapes[0][1], -1)
    c.tie(rows, rows[:, :1], "columns of one channel")
    _keep(site, c, x[2:])
    return [(x[0], np.ascontiguousarray(rows[:, 0]), *stay(site.out_space, c))]


def fourier(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``(*, n, *, 1 or 2) -> (*, n', *, 2)`` along one axis; ONNX DFT."""
    x = ins[0]
    axis = site.axis(1)
    if site.opset >= 20:
        axis = int(site.constant(2, "axis").reshape(-1)[0]) % len(x) if site.has(2) else len(x) - 2
    _keep(site, c, (x[axis], x[-1]), "frequencies")
    sizes = site.out_shapes[0]
    mixed = (axis, len(x) - 1)
    return [tuple(c.frozen(sizes[k]) if k in mixed else x[k] for k in range(len(x)))]


def short_time_fourier(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``signal (N, L, 1 or 2), ... -> (N, frames, bins, 2)``; ONNX STFT."""
    signal, *extra = ins
    _keep(site, c, (*signal[1:], *(labels for own in extra for labels in own)), "frames")
    return [(signal[0], *stay(site.out_shapes[0][1:], c))]


RULES: Mapping[str, Rule] = {
    "Col2Im": col2im,
    "DFT": fourier,
    "DeformConv": deform_conv,
    "MaxRoiPool": regions,
    "MaxUnpool": max_unpool,
    "RoiAlign": regions,
    "STFT": short_time_fourier,
}

"""Operators that multiply and sum: convolutions, Gemm, MatMul, Einsum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.site import Rule, Site, Unsupported, product, stay


def conv(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x (N, C, *S), w (M, C/g, *K), b (M,) -> y (N, M, *S')``; ONNX Conv."""
    x, w, *bias = ins
    groups = site.attr("group", 1)
    _group_inputs(site, x[1], w[1], w[0], groups, c)
    _finish(site, x, w[0], (*w[2:],), bias, c)
    c.macs(w[0], w[1], scale=site.batch * product(site.out_space) * product(site.kernel))
    return [(x[0], w[0], *stay(site.out_space, c))]


def conv_transpose(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x (N, C, *S), w (C, M/g, *K), b (M,) -> y (N, M, *S')``; ONNX ConvTranspose."""
    x, w, *bias = ins
    groups = site.attr("group", 1)
    _sum_over(site, x[1], w[0], c)
    out = w[1]
    if groups > 1 and len(w[0]) == groups:  # depthwise: channel k feeds output block k
        out = c.fresh(groups * len(w[1]))
        c.tie(out.reshape(groups, -1), w[0][:, None], "depthwise: outputs of one channel")
        c.freeze(w[1], "outputs per channel of a depthwise ConvTranspose")
        c.resize("group", groups, {0: w[0]})
    elif groups > 1:
        out = c.fresh(groups * len(w[1]))
        c.tie(out.reshape(groups, -1), w[1], "same position in every group")
        blocks = w[0].reshape(groups, -1)
        c.tie(blocks, blocks[0], "same position in every group")
    _finish(site, x, out, (*w[2:],), bias, c)
    space = site.batch * product(site.in_shapes[0][2:]) * product(site.kernel)
    c.macs(w[0], w[1], scale=space)
    return [(x[0], out, *stay(site.out_space, c))]


def _group_inputs(site: Site, x: Labels, w_in: Labels, w_out: Labels, g: int, c: Coupler) -> None:
    c.read(x)
    if g == 1:
        _sum_over(site, x, w_in, c)
    elif g == len(x):
        # Depthwise weights are (C*m, 1, *K): axis 1 has size 1, x is tied through axis 0.
        c.tie(x[:, None], w_out.reshape(g, -1), "depthwise: outputs of one channel")
        c.resize("group", g, {0: x})
    else:
        c.tie(x.reshape(g, -1), w_in, "same position in every group")
        blocks = w_out.reshape(g, -1)
        c.tie(blocks, blocks[0], "same position in every group")


def _sum_over(site: Site, left: Labels, right: Labels, c: Coupler) -> None:
    c.tie(left, right, f"the summed axis of a {site.node.op_type}")
    c.read(left)
    c.read(right)
    if not site.gated(0) and not site.gated(1):
        # Gating zeroes float activations; a product of two weights would lose terms that count.
        c.freeze(left, "a product of two weights")


def _finish(
    site: Site,
    x: AxisLabels,
    out: Labels,
    kernel: AxisLabels,
    bias: Sequence[AxisLabels],
    c: Coupler,
) -> None:
    for b in bias:
        if b:  # an absent optional input arrives as ()
            c.tie(b[0], out, "bias")
    for labels in (*x[2:], *kernel):
        c.freeze(labels, "a spatial axis of a convolution")
    c.freeze(x[0], "the batch axis of a convolution")
    if site.weights[1]:
        c.free(out)


def gemm(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``A (M, K), B (K, N), C broadcastable to (M, N) -> (M, N)``, with transposes; ONNX Gemm."""
    a, b, *rest = ins
    rows, inner = a[::-1] if site.attr("transA", 0) else a
    inner_b, columns = b[::-1] if site.attr("transB", 0) else b
    _sum_over(site, inner, inner_b, c)
    for extra in rest:
        for labels, out in zip(reversed(extra), (columns, rows), strict=False):
            if len(labels) > 1:
                c.tie(labels, out, "bias")
    _free_outputs(site, rows, columns, c)
    c.macs(rows, inner, columns)
    return [(rows, columns)]


def _free_outputs(site: Site, rows: Labels, columns: Labels, c: Coupler) -> None:
    if site.weights[1]:
        c.free(columns)
    if site.weights[0]:
        c.free(rows)


def matmul(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``a (*B, m, k), b (*B, k, n) -> (*B, m, n)`` with numpy's rules for one axis; ONNX MatMul."""
    a, b = ins[:2]
    unit = c.frozen(1)
    left = a if len(a) > 1 else (unit, *a)
    right = b if len(b) > 1 else (*b, unit)
    _sum_over(site, left[-1], right[-2], c)
    batch = broadcast([left[:-2], right[:-2]], c, "batch axes of a MatMul")
    _free_outputs(site, left[-2], right[-1], c)
    c.macs(*batch, left[-2], left[-1], right[-1])
    out = (*batch, left[-2], right[-1])
    if len(b) == 1:
        out = out[:-1]
    if len(a) == 1:
        out = (*batch, *out[len(batch) + 1 :])
    return [out]


def broadcast(inputs: Sequence[AxisLabels], c: Coupler, reason: str) -> AxisLabels:
    """Align axes from the right, tie those of equal size, let unit axes stretch."""
    rank = max((len(x) for x in inputs), default=0)
    out = []
    for axis in range(-rank, 0):
        present = [x[axis] for x in inputs if len(x) >= -axis]
        full = [labels for labels in present if len(labels) != 1] or present
        # The first array that is not literally frozen names the axis: a later tie says the rest.
        chosen = next((labels for labels in full if labels.any()), full[0])
        for labels in full:
            c.tie(labels, chosen, reason)
        out.append(chosen)
    return tuple(out)


def einsum(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """One letter, one axis; ONNX Einsum without ellipsis and repeated letters."""
    equation = site.attr("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = "".join(terms)
        right = "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    if "." in equation or any(len(set(t)) != len(t) for t in terms):
        raise Unsupported(f"equation {equation!r}")
    axes: dict[str, Labels] = {}
    for term, labels in zip(terms, ins, strict=True):
        for letter, own in zip(term, labels, strict=True):
            if letter in axes and len(axes[letter]) > 1 and len(own) > 1:
                c.tie(own, axes[letter], f"letter {letter} of an Einsum")
            elif letter not in axes or len(own) > 1:
                axes[letter] = own
            if letter not in right:
                c.read(own)
    for letter in sorted({x for term in terms for x in term} - set(right)):
        if not any(site.gated(k) for k, term in enumerate(terms) if letter in term):
            c.freeze(axes[letter], "a product of weights")
    for position, term in enumerate(terms):
        others = "".join(t for k, t in enumerate(terms) if k != position)
        for letter in term:
            if site.weights[position] and letter in right and letter not in others:
                c.free(axes[letter])
    c.macs(*(axes[letter] for letter in sorted(axes)))
    return [tuple(axes[letter] for letter in right)]


RULES: Mapping[str, Rule] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
}

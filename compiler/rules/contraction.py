"""Operators that multiply and sum: convolutions, Gemm, MatMul, Einsum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunec.compiler.labels import AxisLabels, Coupler, Labels
from prunec.compiler.reasons import Reason
from prunec.compiler.site import Rule, Site, Unsupported, product, stay
from prunec.compiler.windows import slide


def conv(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x (N, C, *S), w (M, C/g, *K), b (M,) -> y (N, M, *S')``; ONNX Conv."""
    x, w, *bias = ins
    groups = site.attr("group", 1)
    kernel = slide(site, w[2:], c)
    # Costs come first: they count even where what follows turns out to be unsupported.
    positions = 1 if kernel else product(site.kernel)
    c.macs(w[0], w[1], *kernel, scale=site.batch * product(site.out_space) * positions)
    _group_inputs(site, x[1], w[1], w[0], groups, c)
    _finish(site, x, w[0], () if kernel else w[2:], bias, c)
    return [(x[0], w[0], *stay(site.out_space, c))]


def conv_transpose(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``x (N, C, *S), w (C, M/g, *K), b (M,) -> y (N, M, *S')``; ONNX ConvTranspose."""
    x, w, *bias = ins
    groups = site.attr("group", 1)
    kernel = slide(site, w[2:], c)
    space = site.batch * product(site.in_shapes[0][2:])
    c.macs(w[0], w[1], *kernel, scale=space if kernel else space * product(site.kernel))
    _sum_over(site, x[1], w[0], c)
    out = w[1]
    if groups > 1 and len(w[0]) == groups:  # depthwise: channel k feeds output block k
        out = c.fresh(groups * len(w[1]))
        c.tie(out.reshape(groups, -1), w[0][:, None], "depthwise: outputs of one channel")
        c.freeze(w[1], Reason.UNSUPPORTED_FORM, "outputs per channel of a depthwise ConvTranspose")
        c.resize("group", groups, {0: w[0]})
    elif groups > 1:
        out = c.fresh(groups * len(w[1]))
        c.tie(out.reshape(groups, -1), w[1], "same position in every group")
        blocks = w[0].reshape(groups, -1)
        c.tie(blocks, blocks[0], "same position in every group")
    _finish(site, x, out, () if kernel else w[2:], bias, c)
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
        c.freeze(left, Reason.WEIGHT_PRODUCT, "a product of two weights")


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
        c.freeze(labels, Reason.SPATIAL_AXIS, "a spatial axis of a convolution")
    c.freeze(x[0], Reason.SPATIAL_AXIS, "the batch axis of a convolution")
    if site.weights[1]:
        c.free(out)


def gemm(site: Site, ins: Sequence[AxisLabels], c: Coupler) -> Sequence[AxisLabels]:
    """``A (M, K), B (K, N), C broadcastable to (M, N) -> (M, N)``, with transposes; ONNX Gemm."""
    a, b, *rest = ins
    rows, inner = a[::-1] if site.attr("transA", 0) else a
    inner_b, columns = b[::-1] if site.attr("transB", 0) else b
    c.macs(rows, inner, columns)
    _sum_over(site, inner, inner_b, c)
    for extra in rest:
        for labels, out in zip(reversed(extra), (columns, rows), strict=False):
            if len(labels) > 1:
                c.tie(labels, out, "bias")
    _free_outputs(site, rows, columns, c)
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
    if not any(site.weights[:2]):
        for labels in batch:
            c.head(labels)
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
    """One letter, one axis; a letter written twice in a term is the diagonal of two axes."""
    terms, right = einsum_letters(site.attr("equation", ""), [len(x) for x in ins])
    if len(set(right)) != len(right):
        raise Unsupported(f"equation {site.attr('equation')!r}")
    axes: dict[str, Labels] = {}
    for term, labels in zip(terms, ins, strict=True):
        for letter, own in zip(term, labels, strict=True):
            if letter in axes and len(axes[letter]) > 1 and len(own) > 1:
                c.tie(own, axes[letter], f"letter {letter} of an Einsum")
            elif letter not in axes or len(own) > 1:
                axes[letter] = own
            if letter not in right:
                c.read(own)
    for letter in sorted(axes.keys() - set(right)):
        # A unit axis that stretches is not zero where a channel is removed.
        whole = [
            k
            for k, (term, x) in enumerate(zip(terms, ins, strict=True))
            if letter in term and len(x[term.index(letter)]) == len(axes[letter])
        ]
        if not any(site.gated(k) for k in whole):
            c.freeze(axes[letter], Reason.WEIGHT_PRODUCT, "a product of weights")
    _einsum_outputs(site, terms, right, axes, c)
    c.macs(*(axes[letter] for letter in sorted(axes)))
    return [tuple(axes[letter] for letter in right)]


def _einsum_outputs(
    site: Site, terms: Sequence[str], right: str, axes: Mapping[str, Labels], c: Coupler
) -> None:
    """Letters of the result: heads where activations meet, made by a weight that alone has one."""
    for letter in right:
        if sum(letter in t and not site.weights[k] for k, t in enumerate(terms)) > 1:
            c.head(axes[letter])
    for position, term in enumerate(terms):
        others = "".join(t for k, t in enumerate(terms) if k != position)
        for letter in term:
            if site.weights[position] and letter in right and letter not in others:
                c.free(axes[letter])


def einsum_letters(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Terms and result of an equation, one letter per axis: digits stand for an ellipsis' axes.

    >>> einsum_letters("...ij, jk -> ...ik", [4, 2])
    (['01ij', 'jk'], '01ik')
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    written = left.split(",")
    spans = [
        rank - len(term.replace("...", "")) if "..." in term else 0
        for term, rank in zip(written, ranks, strict=True)
    ]
    most = max(spans, default=0)
    dots = "".join(chr(ord("0") + k) for k in range(most))
    terms = [t.replace("...", dots[most - span :]) for t, span in zip(written, spans, strict=True)]
    if any(len(t) != rank for t, rank in zip(terms, ranks, strict=True)):
        raise Unsupported(f"equation {equation!r}")
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        right = "..." + "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    return terms, right.replace("...", dots)


RULES: Mapping[str, Rule] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
}

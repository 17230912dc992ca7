"""Operators that multiply matrices: convolutions, Gemm, MatMul, Einsum."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from prunec.runtime.torch_view.row import ALL_INPUTS, Call, Row, aligned
from prunec.runtime.torch_view.windows import padded, pads_of, per_axis, symmetric

CONVOLUTIONS: Mapping[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: Mapping[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def conv(call: Call, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """ONNX Conv: ``x (N, C, *S), w (M, C/g, *K), b (M,) -> (N, M, *S')``."""
    rank = w.ndim - 2
    strides, dilations = per_axis(call, "strides", rank), per_axis(call, "dilations", rank)
    pads = pads_of(call, x.shape[2:], w.shape[2:], strides, dilations)
    inside = tuple(begin for begin, _ in pads)
    if not symmetric(pads) or min(inside, default=0) < 0:
        x, inside = padded(x, pads), (0,) * rank
    return CONVOLUTIONS[rank](x, w, b, strides, inside, dilations, call.get("group", 1))


def conv_transpose(call: Call, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """ONNX ConvTranspose: ``x (N, C, *S), w (C, M/g, *K), b (M,) -> (N, M, *S')``."""
    rank, group = w.ndim - 2, call.get("group", 1)
    strides, dilations = per_axis(call, "strides", rank), per_axis(call, "dilations", rank)
    extra = tuple(call.get("output_padding") or (0,) * rank)
    full = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(x.shape[2:], strides, dilations, w.shape[2:], strict=True)
    ]
    pads = _cut(call, full, extra, x.shape[2:], strides)
    fits = all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))
    if symmetric(pads) and fits and all(begin >= 0 for begin, _ in pads):
        inside = tuple(begin for begin, _ in pads)
        return TRANSPOSED[rank](x, w, b, strides, inside, extra, group, dilations)
    # What torch can't cut: everything is computed, then cut or filled up with zeros.
    y = TRANSPOSED[rank](x, w, None, strides, 0, 0, group, dilations)
    y = padded(y, tuple((-begin, e - end) for (begin, end), e in zip(pads, extra, strict=True)))
    return y if b is None else y + aligned(b, y.ndim, 1)


def _cut(
    call: Call,
    full: list[int],
    extra: tuple[int, ...],
    size: tuple[int, ...],
    strides: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """(begin, end) that leaves the full result, per spatial axis."""
    wanted = call.get("output_shape")
    auto = call.get("auto_pad", "NOTSET")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(size, strides, strict=True)]
    if wanted is None:
        return pads_of(call, full, full, strides, strides)
    pads = []
    for length, e, w in zip(full, extra, wanted[-len(full) :], strict=True):
        total = length + e - w
        if total < 0:
            pads.append((0, total))  # the rest is filled up at the end
            continue
        small, large = total // 2, total - total // 2
        pads.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return tuple(pads)


def gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """ONNX Gemm: alpha A' B' + beta C."""
    left = a.T if call.get("transA", 0) else a
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if alpha == beta == 1.0 and (c is None or c.ndim == 1):
        if c is not None and c.shape[0] == 1:
            return F.linear(left, b if call.get("transB", 0) else b.T) + c
        return F.linear(left, b if call.get("transB", 0) else b.T, c)
    y = alpha * torch.matmul(left, b.T if call.get("transB", 0) else b)
    return y if c is None else y + beta * c


def matmul(_: Call, a: Tensor, b: Tensor) -> Tensor:
    """ONNX MatMul; numpy's semantics."""
    return torch.matmul(a, b)


def einsum(call: Call, *inputs: Tensor) -> Tensor:
    """ONNX Einsum."""
    return torch.einsum(call.get("equation").replace(" ", ""), *inputs)


ROWS: Mapping[str, Row] = {
    "Conv": Row(conv, weights=frozenset([1, 2])),
    "ConvTranspose": Row(conv_transpose, weights=frozenset([1, 2])),
    "Einsum": Row(einsum, weights=ALL_INPUTS),
    "Gemm": Row(gemm, weights=frozenset([0, 1, 2])),
    "MatMul": Row(matmul, weights=frozenset([0, 1])),
}

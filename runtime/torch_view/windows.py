"""Padding of sliding windows: what convolutions and pools read beyond the edges."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from prunec.runtime.torch_view.row import Call

Pads = tuple[tuple[int, int], ...]  # (begin, end) per spatial axis


def per_axis(call: Call, name: str, rank: int) -> tuple[int, ...]:
    """An attribute with one number per spatial axis, 1 by default."""
    return tuple(call.get(name) or (1,) * rank)


def pads_of(
    call: Call,
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Pads:
    """The padding of a window operator at an input of spatial `size`; ONNX Conv, `auto_pad`."""
    rank, auto = len(size), call.get("auto_pad", "NOTSET")
    if auto == "VALID":
        return ((0, 0),) * rank
    if auto == "NOTSET":
        flat = tuple(call.get("pads") or (0,) * 2 * rank)
        return tuple(zip(flat[:rank], flat[rank:], strict=True))
    pads = []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return tuple(pads)


def symmetric(pads: Pads) -> bool:
    """Whether as much is added before as after, along every axis."""
    return all(begin == end for begin, end in pads)


def padded(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """`x` (N, C, *S) with its spatial axes padded; negative amounts cut."""
    if not any(begin or end for begin, end in pads):
        return x
    return F.pad(x, [n for pair in reversed(pads) for n in pair], value=value)

"""Pooling, over windows and over all positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from prunec.runtime.torch_view.row import Array, Call, Row, ints
from prunec.runtime.torch_view.windows import Pads, padded, pads_of, per_axis, symmetric

MAX: Mapping[int, Callable[..., tuple[Tensor, Tensor]]] = {
    1: F.max_pool1d_with_indices,
    2: F.max_pool2d_with_indices,
    3: F.max_pool3d_with_indices,
}
MAX_ALONE: Mapping[int, Callable[..., Tensor]] = {
    1: F.max_pool1d,
    2: F.max_pool2d,
    3: F.max_pool3d,
}
MEAN: Mapping[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class _Window:
    """Where the windows of a pool lie. pads: with what a rounded-up output needs at the end."""

    def __init__(self, call: Call, x: Tensor) -> None:
        self.kernel: tuple[int, ...] = tuple(call.get("kernel_shape"))
        rank = len(self.kernel)
        self.strides = per_axis(call, "strides", rank)
        self.dilations = per_axis(call, "dilations", rank)
        self.told = pads_of(call, x.shape[2:], self.kernel, self.strides, self.dilations)
        self.pads: Pads = self.told
        if call.get("ceil_mode", 0):
            self.pads = tuple(
                (begin, self._end(n, begin, end, k))
                for k, (n, (begin, end)) in enumerate(zip(x.shape[2:], self.told, strict=True))
            )

    def _end(self, n: int, begin: int, end: int, k: int) -> int:
        reach = self.dilations[k] * (self.kernel[k] - 1) + 1
        count = -(-(n + begin + end - reach) // self.strides[k]) + 1
        if (count - 1) * self.strides[k] >= n + begin:
            count -= 1  # a window that starts in the padding at the end is left out
        return (count - 1) * self.strides[k] + reach - n - begin

    @property
    def inside(self) -> bool:
        """Whether torch's own padding does."""
        limits = zip(self.pads, self.kernel, strict=True)
        return symmetric(self.pads) and all(2 * begin <= k for (begin, _), k in limits)


def max_pool(call: Call, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """ONNX MaxPool, with the flat positions of the maxima as second output."""
    where = _Window(call, x)
    rank = len(where.kernel)
    y = x if x.is_floating_point() else x.float()
    inside = tuple(begin for begin, _ in where.pads) if where.inside else (0,) * rank
    if not where.inside:
        y = padded(y, where.pads, -math.inf)
    if call.outputs == 1:
        out = MAX_ALONE[rank](y, where.kernel, where.strides, inside, where.dilations)
        return out.to(x.dtype)
    out, found = MAX[rank](y, where.kernel, where.strides, inside, where.dilations)
    begins = (0,) * rank if where.inside else tuple(begin for begin, _ in where.pads)
    return out.to(x.dtype), _positions(found, y, x, begins, bool(call.get("storage_order", 0)))


def _positions(
    found: Tensor, y: Tensor, x: Tensor, begins: tuple[int, ...], column_major: bool
) -> Tensor:
    """Positions in y's planes as ONNX counts them: in the whole of x, planes included."""
    at = []
    for size in reversed(y.shape[2:]):
        at.append(found % size)
        found = found // size
    at = [a - begin for a, begin in zip(reversed(at), begins, strict=True)]
    axes = range(len(at))
    flat = torch.zeros_like(found)
    for k in reversed(axes) if column_major else axes:
        flat = flat * x.shape[2 + k] + at[k]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device)
    planes = planes.reshape(x.shape[0], x.shape[1], *[1] * len(at))
    return flat + planes * math.prod(x.shape[2:])


def _windows(x: Tensor, where: _Window) -> Tensor:
    """The elements under each window: (N, C, *S) -> (N, C, *S', *K)."""
    for k, (size, stride, step) in enumerate(
        zip(where.kernel, where.strides, where.dilations, strict=True)
    ):
        x = x.unfold(2 + k, step * (size - 1) + 1, stride)[..., ::step]
    return x


def average_pool(call: Call, x: Tensor) -> Tensor:
    """ONNX AveragePool."""
    where = _Window(call, x)
    rank, with_pads = len(where.kernel), bool(call.get("count_include_pad", 0))
    if where.inside and set(where.dilations) == {1} and not call.get("ceil_mode", 0):
        inside = tuple(begin for begin, _ in where.pads)
        return MEAN[rank](x, where.kernel, where.strides, inside, False, with_pads)
    axes = list(range(-rank, 0))
    ones = x.new_ones(1, 1, *x.shape[2:])
    if with_pads:
        # What lies beyond the told padding, for a rounded-up output, is never counted.
        ones = padded(ones, where.told, 1.0)
        beyond: Pads = tuple(
            (0, have - told) for (_, have), (_, told) in zip(where.pads, where.told, strict=True)
        )
        counted = padded(ones, beyond)
    else:
        counted = padded(ones, where.pads)
    total = _windows(padded(x, where.pads), where).sum(axes)
    return total / _windows(counted, where).sum(axes)


def lp_pool(call: Call, x: Tensor) -> Tensor:
    """ONNX LpPool."""
    where, p = _Window(call, x), call.get("p", 2)
    axes = list(range(-len(where.kernel), 0))
    return _windows(padded(x, where.pads).abs().pow(p), where).sum(axes).pow(1 / p)


def max_unpool(call: Call, x: Tensor, found: Tensor, shape: Array | None = None) -> Tensor:
    """ONNX MaxUnpool: values back at the positions that MaxPool told."""
    kernel = tuple(call.get("kernel_shape"))
    strides = per_axis(call, "strides", len(kernel))
    pads = pads_of(call, x.shape[2:], kernel, strides, strides)
    size = [
        (n - 1) * s + k - begin - end
        for n, s, k, (begin, end) in zip(x.shape[2:], strides, kernel, pads, strict=True)
    ]
    target = (*x.shape[:2], *size) if shape is None else ints(shape)
    flat = x.new_zeros(math.prod(target))
    own = (*x.shape[:2], *size)
    if tuple(target) != own:  # positions count in what the pool has read
        planes = found // math.prod(size)
        inner, at = found % math.prod(size), []
        for n in reversed(size):
            at.append(inner % n)
            inner = inner // n
        found = planes
        for a, n in zip(reversed(at), target[2:], strict=True):
            found = found * n + a
    return flat.scatter(0, found.reshape(-1), x.reshape(-1)).reshape(target)


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


def global_average(_: Call, x: Tensor) -> Tensor:
    """ONNX GlobalAveragePool."""
    return x.mean(_spatial(x), keepdim=True)


def global_max(_: Call, x: Tensor) -> Tensor:
    """ONNX GlobalMaxPool."""
    return x.amax(_spatial(x), keepdim=True)


def global_lp(call: Call, x: Tensor) -> Tensor:
    """ONNX GlobalLpPool."""
    norm: Tensor = torch.linalg.vector_norm(x, call.get("p", 2), _spatial(x), keepdim=True)
    return norm


ROWS: Mapping[str, Row] = {
    "AveragePool": Row(average_pool),
    "GlobalAveragePool": Row(global_average),
    "GlobalLpPool": Row(global_lp),
    "GlobalMaxPool": Row(global_max),
    "LpPool": Row(lp_pool),
    "MaxPool": Row(max_pool),
    "MaxUnpool": Row(max_unpool, host=frozenset([2])),
}

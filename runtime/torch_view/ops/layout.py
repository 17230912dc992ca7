"""Operators that only move elements: reshapes, slices, joins, padding."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prunec.compiler.constants import reshaped
from prunec.runtime.torch_view.row import ALL_INPUTS, Array, Call, Row, axes_of, ints, number
from prunec.runtime.torch_view.windows import per_axis

SECOND = frozenset([1])


def identity(_: Call, x: Tensor) -> Tensor:
    """ONNX Identity."""
    return x


def reshape(call: Call, x: Tensor, shape: Array) -> Tensor:
    """ONNX Reshape."""
    return x.reshape(reshaped(x.shape, ints(shape), bool(call.get("allowzero", 0))))


def flatten(call: Call, x: Tensor) -> Tensor:
    """ONNX Flatten: to a matrix."""
    axis = call.get("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def transpose(call: Call, x: Tensor) -> Tensor:
    """ONNX Transpose."""
    return x.permute(*(call.get("perm") or reversed(range(x.ndim))))


def squeeze(call: Call, x: Tensor, axes: Array | None = None) -> Tensor:
    """ONNX Squeeze."""
    over = axes_of(call, axes) or [k for k, n in enumerate(x.shape) if n == 1]
    gone = {k % x.ndim for k in over}
    return x.reshape([n for k, n in enumerate(x.shape) if k not in gone])


def unsqueeze(call: Call, x: Tensor, axes: Array | None = None) -> Tensor:
    """ONNX Unsqueeze; axes count in the result."""
    given = axes_of(call, axes)
    new = {k % (x.ndim + len(given)) for k in given}
    sizes = iter(x.shape)
    return x.reshape([1 if k in new else next(sizes) for k in range(x.ndim + len(given))])


def expand(_: Call, x: Tensor, shape: Array) -> Tensor:
    """ONNX Expand: broadcast both ways."""
    return x.expand(np.broadcast_shapes(x.shape, ints(shape)))


def tile(_: Call, x: Tensor, repeats: Array) -> Tensor:
    """ONNX Tile."""
    return x.repeat(*ints(repeats))


def concat(call: Call, *inputs: Tensor) -> Tensor:
    """ONNX Concat."""
    return torch.cat(inputs, call.get("axis", 1))


def split(call: Call, x: Tensor, sizes: Array | None = None) -> tuple[Tensor, ...]:
    """ONNX Split: told sizes, or equal pieces with a smaller last."""
    axis = call.get("axis", 0)
    told = call.get("split") or ints(sizes)
    if told:
        return x.split_with_sizes(list(told), axis)
    total = x.shape[axis]
    each = -(-total // call.get("num_outputs", call.outputs))
    return x.split_with_sizes(
        [max(0, min(each, total - k * each)) for k in range(call.outputs)], axis
    )


def slice_(
    call: Call,
    x: Tensor,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Tensor:
    """ONNX Slice; attributes before operator set 10."""
    begin = call.get("starts") or ints(starts)
    stop = call.get("ends") or ints(ends)
    over = axes_of(call, axes) or range(len(begin))
    strides = ints(steps) or (1,) * len(begin)
    for first, last, axis, step in zip(begin, stop, over, strides, strict=True):
        found = range(*slice(first, _end(last, step), step).indices(x.shape[axis]))
        if step > 0:
            cut = [slice(None)] * x.ndim
            cut[axis] = slice(found.start, max(found.stop, found.start), step)
            x = x[tuple(cut)]
        else:  # torch has no negative steps
            x = x.index_select(axis, torch.tensor(list(found), dtype=torch.int64, device=x.device))
    return x


def _end(last: int, step: int) -> int | None:
    """ONNX writes "to before the first element" as a very small end; Python needs None."""
    return None if step < 0 and last < -(2**30) else last


def pad(
    call: Call,
    x: Tensor,
    pads: Array | None = None,
    value: Array | None = None,
    axes: Array | None = None,
) -> Tensor:
    """ONNX Pad; negative amounts cut."""
    flat = call.get("pads") or ints(pads)
    over = [k % x.ndim for k in ints(axes)] if axes is not None else list(range(x.ndim))
    amounts = [(0, 0)] * x.ndim
    for k, axis in enumerate(over):
        amounts[axis] = (flat[k], flat[k + len(over)])
    mode = call.get("mode", "constant")
    if mode == "constant":
        fill = call.get("value", 0.0) if value is None else number(value)
        return F.pad(x, [n for pair in reversed(amounts) for n in pair], value=fill)
    for axis, (begin, end) in enumerate(amounts):
        if begin or end:
            found = _sources(mode, x.shape[axis], begin, end)
            x = x.index_select(axis, found.to(x.device))
    return x


def _sources(mode: str, size: int, begin: int, end: int) -> Tensor:
    """Which index each position of a padded axis repeats."""
    at = torch.arange(-begin, size + end)
    if mode == "edge":
        return at.clamp(0, size - 1)
    if mode == "wrap":
        return at % size
    period = max(2 * (size - 1), 1)  # reflect
    at = at % period
    return torch.where(at < size, at, period - at)


def depth_to_space(call: Call, x: Tensor) -> Tensor:
    """ONNX DepthToSpace: ``(N, C b^2, H, W) -> (N, C, H b, W b)``."""
    b = call.get("blocksize")
    n, c, h, w = x.shape
    if call.get("mode", "DCR") == "DCR":
        y = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // (b * b), b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // (b * b), h * b, w * b)


def space_to_depth(call: Call, x: Tensor) -> Tensor:
    """ONNX SpaceToDepth: ``(N, C, H b, W b) -> (N, C b^2, H, W)``."""
    b = call.get("blocksize")
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * b * b, h // b, w // b)


def center_crop_pad(call: Call, x: Tensor, shape: Array) -> Tensor:
    """ONNX CenterCropPad."""
    over = call.get("axes") or range(x.ndim)
    amounts = [(0, 0)] * x.ndim
    for axis, wanted in zip(over, ints(shape), strict=True):
        more = wanted - x.shape[axis]
        small = abs(more) // 2
        begin = small if more > 0 else -small
        amounts[axis] = (begin, more - begin)
    return F.pad(x, [n for pair in reversed(amounts) for n in pair])


def col2im(call: Call, x: Tensor, size: Array, block: Array) -> Tensor:
    """ONNX Col2Im over two spatial axes: sums of blocks put back."""
    rank = len(ints(size))
    pads = call.get("pads") or (0,) * 2 * rank
    begin, end = pads[:rank], pads[rank:]
    whole = tuple(n + b + e for n, b, e in zip(ints(size), begin, end, strict=True))
    y = F.fold(
        x,
        whole,
        ints(block),
        per_axis(call, "dilations", rank),
        0,
        per_axis(call, "strides", rank),
    )
    cut = [slice(b, b + n) for b, n in zip(begin, ints(size), strict=True)]
    return y[(slice(None), slice(None), *cut)]


def reverse_sequence(call: Call, x: Tensor, lengths: Tensor) -> Tensor:
    """ONNX ReverseSequence: the first `lengths` steps of each sample in reverse order."""
    time, batch = call.get("time_axis", 0), call.get("batch_axis", 1)
    y = x.movedim((time, batch), (0, 1))
    at = torch.arange(y.shape[0], device=x.device)[:, None]
    source = torch.where(at < lengths, lengths - 1 - at, at)
    source = source.reshape(*source.shape, *[1] * (y.ndim - 2)).expand(y.shape)
    return y.gather(0, source).movedim((0, 1), (time, batch))


def trilu(call: Call, x: Tensor, k: Array | None = None) -> Tensor:
    """ONNX Trilu."""
    diagonal = int(number(k))
    return torch.triu(x, diagonal) if call.get("upper", 1) else torch.tril(x, diagonal)


ROWS: Mapping[str, Row] = {
    "CenterCropPad": Row(center_crop_pad, host=SECOND),
    "Col2Im": Row(col2im, host=frozenset([1, 2])),
    "Concat": Row(concat, operands=ALL_INPUTS),
    "DepthToSpace": Row(depth_to_space),
    "Expand": Row(expand, host=SECOND),
    "Flatten": Row(flatten),
    "Identity": Row(identity),
    "Pad": Row(pad, host=frozenset([1, 2, 3])),
    "Reshape": Row(reshape, host=SECOND),
    "ReverseSequence": Row(reverse_sequence),
    "Slice": Row(slice_, host=frozenset([1, 2, 3, 4])),
    "SpaceToDepth": Row(space_to_depth),
    "Split": Row(split, host=SECOND),
    "Squeeze": Row(squeeze, host=SECOND),
    "Tile": Row(tile, host=SECOND),
    "Transpose": Row(transpose),
    "Trilu": Row(trilu, host=SECOND),
    "Unsqueeze": Row(unsqueeze, host=SECOND),
}

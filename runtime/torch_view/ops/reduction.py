"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from prunec.runtime.torch_view.row import Array, Call, Row, axes_of

Reducer = Callable[[Tensor, list[int], bool], Tensor]


def _row(function: Reducer) -> Row:
    """axes: an attribute, or since operator set 13 (ReduceSum) or 18 an input."""

    def run(call: Call, x: Tensor, axes: Array | None = None) -> Tensor:
        over = axes_of(call, axes)
        if not over and call.get("noop_with_empty_axes", 0):
            return x
        places = sorted({k % x.ndim for k in over} if over else range(x.ndim))
        return function(x, places, bool(call.get("keepdims", 1)))

    return Row(run, host=frozenset([1]))


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in reversed(axes):
        x = x.prod(axis, keepdim=keep)
    return x


def _extreme(largest: bool) -> Reducer:
    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if not axes:
            return x
        found = x.to(torch.uint8) if x.dtype == torch.bool else x
        return (found.amax if largest else found.amin)(axes, keepdim=keep).to(x.dtype)

    return run


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype) if axes else x


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if not axes:
        return x
    return x.mean(axes, keepdim=keep) if x.is_floating_point() else _whole_mean(x, axes, keep)


def _whole_mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc")


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(x, axes, keepdim=keep)


REDUCERS: Mapping[str, Reducer] = {
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keepdim=keep),
    "ReduceLogSum": lambda x, axes, keep: _sum(x, axes, keep).log(),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _extreme(True),
    "ReduceMean": _mean,
    "ReduceMin": _extreme(False),
    "ReduceProd": _product,
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda x, axes, keep: _sum(x.square(), axes, keep),
}


def _arg(call: Call, x: Tensor) -> Tensor:
    """ONNX ArgMax and ArgMin."""
    axis, keep = call.get("axis", 0), bool(call.get("keepdims", 1))
    find = torch.argmax if call.op == "ArgMax" else torch.argmin
    if call.get("select_last_index", 0):
        return x.shape[axis] - 1 - find(x.flip(axis), axis, keepdim=keep)
    return find(x, axis, keepdim=keep)


ROWS: Mapping[str, Row] = {
    **{op: _row(function) for op, function in REDUCERS.items()},
    "ArgMax": Row(_arg),
    "ArgMin": Row(_arg),
}

"""Reading and writing at indices; sorting."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from prunec.runtime.torch_view.row import Array, Call, Row, number
from prunec.runtime.torch_view.tensors import from_numpy

REDUCTIONS: Mapping[str, str] = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _wrapped(indices: Tensor, size: int) -> Tensor:
    """Indices counted from the start."""
    return torch.where(indices < 0, indices + size, indices).long()


def gather(call: Call, x: Tensor, indices: Tensor | Array) -> Tensor:
    """ONNX Gather."""
    axis = call.get("axis", 0) % x.ndim
    if isinstance(indices, np.ndarray) and indices.ndim == 0:
        return x.select(axis, int(indices))
    at = from_numpy(indices).to(x.device) if isinstance(indices, np.ndarray) else indices
    found = x.index_select(axis, _wrapped(at, x.shape[axis]).reshape(-1))
    return found.reshape(*x.shape[:axis], *at.shape, *x.shape[axis + 1 :])


def gather_elements(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    """ONNX GatherElements."""
    axis = call.get("axis", 0)
    return x.gather(axis, _wrapped(indices, x.shape[axis]))


def _nd(x: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
    return tuple(_wrapped(at, n) for at, n in zip(indices.unbind(-1), x.shape, strict=False))


def gather_nd(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    """ONNX GatherND."""
    shared = call.get("batch_dims", 0)
    if not shared:
        return x[_nd(x, indices)]
    batch = x.shape[:shared]
    flat, at = x.reshape(-1, *x.shape[shared:]), indices.reshape(-1, *indices.shape[shared:])
    rows = torch.arange(flat.shape[0], device=x.device)
    rows = rows.reshape(-1, *[1] * (at.ndim - 2)).expand(at.shape[:-1])
    found = flat[(rows, *_nd(flat[0], at))]
    return found.reshape(*batch, *found.shape[1:])


def scatter_elements(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """ONNX ScatterElements (Scatter before operator set 11)."""
    axis = call.get("axis", 0)
    at = _wrapped(indices, x.shape[axis])
    reduction = call.get("reduction", "none")
    if reduction == "none":
        return x.scatter(axis, at, updates)
    return x.scatter_reduce(axis, at, updates, REDUCTIONS[reduction], include_self=True)


def scatter_nd(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """ONNX ScatterND."""
    reduction, depth = call.get("reduction", "none"), indices.shape[-1]
    if reduction == "none":
        return x.index_put(_nd(x, indices), updates)
    # As rows of a matrix, so that one index a row says where.
    rows = x.reshape(int(np.prod(x.shape[:depth])), -1)
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for at, n in zip(_nd(x, indices), x.shape, strict=False):
        flat = flat * n + at
    source = updates.reshape(-1, rows.shape[1])
    at = flat.reshape(-1, 1).expand(source.shape)
    return rows.scatter_reduce(0, at, source, REDUCTIONS[reduction]).reshape(x.shape)


def tensor_scatter(call: Call, x: Tensor, update: Tensor, begin: Tensor | None = None) -> Tensor:
    """ONNX TensorScatter: `update` written into a cache along an axis, from `begin` on."""
    axis = call.get("axis", -2) % x.ndim
    y, new = x.movedim(axis, 1), update.movedim(axis, 1)
    starts = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device) if begin is None else begin
    at = starts[:, None] + torch.arange(new.shape[1], device=x.device)
    if call.get("mode", "linear") == "circular":
        at = at % y.shape[1]
    samples = torch.arange(x.shape[0], device=x.device)[:, None].expand(at.shape)
    return y.index_put((samples, at), new).movedim(1, axis)


def one_hot(call: Call, indices: Tensor, depth: Array, values: Tensor) -> Tensor:
    """ONNX OneHot."""
    count, axis = int(number(depth)), call.get("axis", -1)
    # Indices out of range give no hot element; torch's own one_hot refuses them.
    at = torch.where(indices < 0, indices + count, indices).long()
    hot = at.unsqueeze(-1) == torch.arange(count, device=indices.device)
    return torch.where(hot, values[1], values[0]).movedim(-1, axis)


def top_k(call: Call, x: Tensor, k: Array | None = None) -> tuple[Tensor, Tensor]:
    """ONNX TopK; ties go to the lower index."""
    axis = call.get("axis", -1)
    count = int(call.get("k") if k is None else number(k))
    largest = bool(call.get("largest", 1))
    found = torch.sort(x, dim=axis, descending=largest, stable=True)
    return found.values.narrow(axis, 0, count), found.indices.narrow(axis, 0, count)


def non_zero(_: Call, x: Tensor) -> Tensor:
    """ONNX NonZero; its size depends on the data."""
    return torch.nonzero(x if x.ndim else x.reshape(1)).T


def compress(call: Call, x: Tensor, kept: Tensor) -> Tensor:
    """ONNX Compress."""
    axis = call.get("axis")
    flat = x.reshape(-1) if axis is None else x
    return flat.index_select(axis or 0, torch.nonzero(kept).reshape(-1))


def _cumulative(function: Callable[..., Tensor], neutral: float) -> Callable[..., Tensor]:
    def run(call: Call, x: Tensor, axis: Array) -> Tensor:
        along = int(number(axis))
        y = x.flip(along) if call.get("reverse", 0) else x
        if call.get("exclusive", 0):
            first = torch.full_like(y.narrow(along, 0, 1), neutral)
            y = torch.cat([first, y.narrow(along, 0, y.shape[along] - 1)], along)
        y = function(y, along, dtype=x.dtype)
        return y.flip(along) if call.get("reverse", 0) else y

    return run


SECOND = frozenset([1])
ROWS: Mapping[str, Row] = {
    "Compress": Row(compress),
    "CumProd": Row(_cumulative(torch.cumprod, 1.0), host=SECOND),
    "CumSum": Row(_cumulative(torch.cumsum, 0.0), host=SECOND),
    "Gather": Row(gather, either=SECOND, weights=frozenset([0])),
    "GatherElements": Row(gather_elements, operands=frozenset([0])),
    "GatherND": Row(gather_nd, operands=frozenset([0])),
    "NonZero": Row(non_zero),
    "OneHot": Row(one_hot, host=SECOND),
    "Scatter": Row(scatter_elements),
    "ScatterElements": Row(scatter_elements),
    "ScatterND": Row(scatter_nd),
    "TensorScatter": Row(tensor_scatter),
    "TopK": Row(top_k, host=SECOND),
}

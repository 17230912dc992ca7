"""Normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from prunec.runtime.torch_view.row import Call, Row, aligned

AFFINE = frozenset([1, 2])
PER_CHANNEL = 21  # since this operator set GroupNormalization has scale and bias per channel


def batch_norm(
    call: Call, x: Tensor, w: Tensor, b: Tensor, mean: Tensor, var: Tensor, *, training: bool
) -> Tensor | tuple[Tensor, ...]:
    """ONNX BatchNormalization; in training, batch statistics, which move the running ones.

    ONNX's momentum is the share of the old statistics, torch's that of the new. As in torch the
    running variance is the unbiased one (ONNX: the biased).
    """
    eps, momentum = call.get("epsilon", 1e-5), call.get("momentum", 0.9)
    own = bool(call.get("training_mode", 0))
    if not (training or own):
        return F.batch_norm(x, mean, var, w, b, False, 0.0, eps)
    # What isn't a buffer of the view (computed, or a weight as well) can't be moved in place.
    moves = training and not (mean.requires_grad or var.requires_grad)
    before = (mean.clone(), var.clone()) if own else (mean, var)
    moved = (mean, var) if moves else (mean.detach().clone(), var.detach().clone())
    y = F.batch_norm(x, *moved, w, b, True, 1 - momentum, eps)
    if not own or call.outputs == 1:
        return y
    axes = [k for k in range(x.ndim) if k != 1]
    found = (x.mean(axes), x.var(axes, correction=0))
    return y, *(momentum * a + (1 - momentum) * n for a, n in zip(before, found, strict=True))


def _standardised(x: Tensor, axes: Sequence[int], eps: float) -> Tensor:
    var, mean = torch.var_mean(x, list(axes), correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(var + eps)


def instance_norm(call: Call, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """ONNX InstanceNormalization: over the spatial axes, per sample and channel."""
    y = _standardised(x, range(2, x.ndim), call.get("epsilon", 1e-5))
    return y * aligned(w, x.ndim, 1) + aligned(b, x.ndim, 1)


def group_norm(call: Call, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """ONNX GroupNormalization."""
    groups = call.get("num_groups")
    if call.version < PER_CHANNEL:
        each = x.shape[1] // groups
        w, b = w.repeat_interleave(each), b.repeat_interleave(each)
    return F.group_norm(x, groups, w, b, call.get("epsilon", 1e-5))


def layer_norm(
    call: Call, x: Tensor, w: Tensor, b: Tensor | None = None
) -> Tensor | tuple[Tensor, ...]:
    """ONNX LayerNormalization: over `axis` and those after it."""
    axis, eps = call.get("axis", -1) % x.ndim, call.get("epsilon", 1e-5)
    shape = x.shape[axis:]
    if w.shape == shape and (b is None or b.shape == shape):
        y = F.layer_norm(x, shape, w, b, eps)
    else:
        y = F.layer_norm(x, shape, None, None, eps) * w
        y = y if b is None else y + b
    if call.outputs == 1:
        return y
    var, mean = torch.var_mean(x, list(range(axis, x.ndim)), correction=0, keepdim=True)
    return y, mean, torch.rsqrt(var + eps)


def rms_norm(call: Call, x: Tensor, w: Tensor) -> Tensor:
    """ONNX RMSNormalization: as LayerNormalization, about zero."""
    axes = list(range(call.get("axis", -1) % x.ndim, x.ndim))
    square = x.float().square() if x.dtype in (torch.float16, torch.bfloat16) else x.square()
    return (x * torch.rsqrt(square.mean(axes, keepdim=True) + call.get("epsilon", 1e-5))).to(
        x.dtype
    ) * w


def local_response_norm(call: Call, x: Tensor) -> Tensor:
    """ONNX LRN: over a window of channels."""
    size: int = call.get("size")
    before = (size - 1) // 2
    rest = [0, 0] * (x.ndim - 2)
    square = F.pad(x.square(), [*rest, before, size - 1 - before])
    total = square.unfold(1, size, 1).sum(-1)
    base = call.get("bias", 1.0) + call.get("alpha", 1e-4) / size * total
    return x / base.pow(call.get("beta", 0.75))


def lp_normalisation(call: Call, x: Tensor) -> Tensor:
    """ONNX LpNormalization; what is zero stays zero."""
    norm = torch.linalg.vector_norm(x, call.get("p", 2), call.get("axis", -1), keepdim=True)
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)


def mean_variance(call: Call, x: Tensor) -> Tensor:
    """ONNX MeanVarianceNormalization."""
    var, mean = torch.var_mean(x, list(call.get("axes", (0, 2, 3))), correction=0, keepdim=True)
    return (x - mean) / (var.sqrt() + 1e-9)


ROWS: Mapping[str, Row] = {
    "BatchNormalization": Row(batch_norm, weights=AFFINE, modal=True),
    "GroupNormalization": Row(group_norm, weights=AFFINE),
    "InstanceNormalization": Row(instance_norm, weights=AFFINE),
    "LRN": Row(local_response_norm),
    "LayerNormalization": Row(layer_norm, weights=AFFINE),
    "LpNormalization": Row(lp_normalisation),
    "MeanVarianceNormalization": Row(mean_variance),
    "RMSNormalization": Row(rms_norm, weights=AFFINE),
    "SimplifiedLayerNormalization": Row(rms_norm, weights=AFFINE),
}

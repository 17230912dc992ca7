"""onnxruntime's own operators, as its optimiser writes them: fused forms of the standard ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from prunec.runtime.torch_view.ops.activation import ROWS as ACTIVATIONS
from prunec.runtime.torch_view.ops.contraction import conv, gemm
from prunec.runtime.torch_view.ops.norm import rms_norm
from prunec.runtime.torch_view.row import Call, Row

MS = "com.microsoft::"


def fast_gelu(_: Call, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """FastGelu: the tanh approximation."""
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


def bias_gelu(_: Call, x: Tensor, bias: Tensor) -> Tensor:
    """BiasGelu."""
    return F.gelu(x + bias)


def quick_gelu(call: Call, x: Tensor) -> Tensor:
    """QuickGelu: x sigmoid(alpha x)."""
    return x * torch.sigmoid(call.get("alpha", 1.702) * x)


def _activated(call: Call, x: Tensor, told: Mapping[str, float]) -> Tensor:
    """The fused activation, with attributes of its own."""
    name = call.get("activation")
    made: Tensor = ACTIVATIONS[name].run(Call(name, call.name, 1, 1, told), x) if name else x
    return made


def fused_conv(
    call: Call, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None
) -> Tensor:
    """FusedConv: a convolution, a sum and an activation."""
    y = conv(call, x, w, b)
    names = ("min", "max") if call.get("activation") == "Clip" else ("alpha", "beta")
    given: Sequence[float] = call.get("activation_params") or ()
    told = dict(zip(names, given, strict=False))
    return _activated(call, y if z is None else y + z, told)


def fused_gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """FusedGemm."""
    given = {k: call.get(f"activation_{k}") for k in ("alpha", "beta", "gamma")}
    told = {k: v for k, v in given.items() if v is not None}
    return _activated(call, gemm(call, a, b, c), told)


def fused_matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """FusedMatMul, TransposeMatMul: alpha A' B'."""
    left = a.transpose(-1, -2) if call.get("transA", 0) else a
    right = b.transpose(-1, -2) if call.get("transB", 0) else b
    return call.get("alpha", 1.0) * torch.matmul(left, right)


def skip_layer_norm(
    call: Call,
    x: Tensor,
    skip: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """SkipLayerNormalization: a sum and its norm; the fourth output is the sum."""
    total = x + skip if bias is None else x + skip + bias
    eps = call.get("epsilon", 1e-12)
    return F.layer_norm(total, total.shape[-1:], w, b, eps), None, None, total


def skip_rms_norm(
    call: Call, x: Tensor, skip: Tensor, w: Tensor, bias: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    """SkipSimplifiedLayerNormalization."""
    total = x + skip if bias is None else x + skip + bias
    told = {"epsilon": call.get("epsilon", 1e-12)}
    return rms_norm(replace(call, attributes=told), total, w), None, None, total


def attention(
    call: Call, x: Tensor, w: Tensor, b: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Attention with one projection (I, 3 h d) for queries, keys and values; masks (N, L)."""
    heads = call.get("num_heads")
    projected = torch.matmul(x, w) if b is None else torch.matmul(x, w) + b
    sizes = call.get("qkv_hidden_sizes") or (projected.shape[-1] // 3,) * 3
    q, k, v = projected.split_with_sizes(list(sizes), -1)
    return _attend(call, heads, q, k, v, mask)


def multi_head_attention(
    call: Call,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    added: Tensor | None = None,
) -> Tensor:
    """MultiHeadAttention of queries (N, S, h d), keys and values (N, L, h d)."""
    if bias is not None:
        bq, bk, bv = bias.split_with_sizes([q.shape[-1], k.shape[-1], v.shape[-1]])
        q, k, v = q + bq, k + bk, v + bv
    return _attend(call, call.get("num_heads"), q, k, v, mask, added)


def _attend(
    call: Call,
    heads: int,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    added: Tensor | None = None,
) -> Tensor:
    split = [x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v)]
    allowed: Tensor | None = None
    if mask is not None:
        if mask.ndim == 1:  # how many keys each sample has
            mask = torch.arange(k.shape[1], device=k.device) < mask[: k.shape[0], None]
        shape = (1,) * (3 - mask.ndim)
        allowed = mask.bool().reshape(mask.shape[0], *shape, *mask.shape[1:]).unsqueeze(1)
    if call.get("unidirectional", 0):
        ones = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device)
        causal = ones.tril(k.shape[1] - q.shape[1])
        allowed = causal if allowed is None else allowed & causal
    blocked = call.get("mask_filter_value", -10000.0)
    bias = added
    if allowed is not None:
        filled = torch.zeros(allowed.shape, dtype=q.dtype, device=q.device)
        filled = filled.masked_fill(~allowed, blocked)
        bias = filled if added is None else filled + added
    queries, keys, values = split
    scale = call.get("scale") or 1 / math.sqrt(queries.shape[-1])
    y = F.scaled_dot_product_attention(queries, keys, values, bias, scale=scale)
    return y.transpose(1, 2).flatten(2)


ROWS: Mapping[str, Row] = {
    MS + "Attention": Row(attention, weights=frozenset([1, 2])),
    MS + "BiasGelu": Row(bias_gelu, weights=frozenset([1])),
    MS + "FastGelu": Row(fast_gelu, weights=frozenset([1])),
    MS + "FusedConv": Row(fused_conv, weights=frozenset([1, 2])),
    MS + "FusedGemm": Row(fused_gemm, weights=frozenset([0, 1, 2])),
    MS + "FusedMatMul": Row(fused_matmul, weights=frozenset([0, 1])),
    MS + "Gelu": Row(lambda _, x: F.gelu(x)),
    MS + "MultiHeadAttention": Row(multi_head_attention, weights=frozenset([3])),
    MS + "QuickGelu": Row(quick_gelu),
    MS + "SkipLayerNormalization": Row(skip_layer_norm, weights=frozenset([2, 3, 4])),
    MS + "SkipSimplifiedLayerNormalization": Row(skip_rms_norm, weights=frozenset([2, 3])),
    MS + "TransposeMatMul": Row(fused_matmul, weights=frozenset([0, 1])),
}

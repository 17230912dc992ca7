"""Attention and rotary embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from prunec.runtime.torch_view.row import Call, Row
from prunec.runtime.torch_view.tensors import torch_type

AFTER_CAP, WITH_BIAS, PROBABILITIES = 1, 2, 3  # what the fourth output of Attention holds


def attention(
    call: Call,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    valid: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """ONNX Attention: ``q (N, h, S, d), k, v (N, g, L, d)``, or (N, S, h d) each.

    valid: (N,) how many keys are not padding. Source: onnx.reference, op_attention.
    """
    flat = q.ndim == 3
    if flat:
        q = _heads(q, call.get("q_num_heads"))
        k, v = (_heads(x, call.get("kv_num_heads")) for x in (k, v))
    before = 0 if past_key is None else past_key.shape[2]
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    offset = torch.full((1,), before, device=q.device)
    if past_key is None and valid is not None:
        offset = valid.reshape(-1) - q.shape[2]
    bias = _bias(call, q, k, mask, offset, valid)
    repeats = q.shape[1] // k.shape[1]
    keys, values = (x if repeats == 1 else x.repeat_interleave(repeats, 1) for x in (k, v))
    scale = call.get("scale") or 1 / math.sqrt(q.shape[-1])
    if not call.get("softcap", 0.0) and call.outputs < 4:
        y = F.scaled_dot_product_attention(q, keys, values, bias, scale=scale)
        return (_merged(y) if flat else y), k, v
    y, matrix = _written_out(call, q, keys, values, bias, scale)
    return (_merged(y) if flat else y), k, v, matrix


def _written_out(
    call: Call, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """The result and what the fourth output shows of the matrix of queries and keys."""
    scores = torch.matmul(q * math.sqrt(scale), (k * math.sqrt(scale)).transpose(-1, -2))
    cap, shown = call.get("softcap", 0.0), call.get("qk_matmul_output_mode", 0)
    capped = cap * torch.tanh(scores / cap) if cap else scores
    biased = capped if bias is None else capped + bias
    precision = call.get("softmax_precision")
    wide = biased if precision is None else biased.to(torch_type(precision))
    shares = torch.softmax(wide, -1).to(q.dtype)
    # A query that may read nothing reads nothing: softmax has no numbers there.
    shares = torch.where(torch.isneginf(biased).all(-1, keepdim=True), 0.0, shares)
    matrix = {AFTER_CAP: capped, WITH_BIAS: biased, PROBABILITIES: shares}.get(shown, capped)
    return torch.matmul(shares, v), matrix


def _heads(x: Tensor, count: int) -> Tensor:
    """(N, S, h d) -> (N, h, S, d)."""
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def _merged(x: Tensor) -> Tensor:
    """(N, h, S, d) -> (N, S, h d)."""
    return x.transpose(1, 2).flatten(2)


def _bias(
    call: Call, q: Tensor, k: Tensor, mask: Tensor | None, offset: Tensor, valid: Tensor | None
) -> Tensor | None:
    """What is added to the scores, -inf where a key may not be read; None where nothing is."""
    bias: Tensor | None = None
    if mask is not None:
        bias = _additive(mask, q.dtype) if mask.dtype == torch.bool else mask
        missing = k.shape[2] - mask.shape[-1]
        bias = F.pad(bias, [0, missing], value=-math.inf) if missing > 0 else bias
    allowed: Tensor | None = None
    if call.get("is_causal", 0):
        rows = torch.arange(q.shape[2], device=q.device)[:, None] + offset.reshape(-1, 1, 1, 1)
        allowed = torch.arange(k.shape[2], device=q.device) <= rows
    if valid is not None:
        inside = torch.arange(k.shape[2], device=q.device) < valid.reshape(-1, 1, 1, 1)
        allowed = inside if allowed is None else allowed & inside
    if allowed is None:
        return bias
    return _additive(allowed, q.dtype) + (0 if bias is None else bias)


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    blank = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return blank.masked_fill(~allowed, -math.inf)


def rotary(
    call: Call, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None
) -> Tensor:
    """ONNX RotaryEmbedding: ``x (N, h, S, d)`` or ``(N, S, h d)``.

    cos, sin: (P, r/2) with positions (N, S), else (N, S, r/2).
    """
    flat = x.ndim == 3
    y = _heads(x, call.get("num_heads")) if flat else x
    width = call.get("rotary_embedding_dim", 0) or y.shape[-1]
    turned, rest = y[..., :width], y[..., width:]
    if positions is not None:
        cos, sin = cos[positions.long()], sin[positions.long()]
    cos, sin = cos[..., : width // 2].unsqueeze(1), sin[..., : width // 2].unsqueeze(1)
    if call.get("interleaved", 0):
        a, b = turned[..., 0::2], turned[..., 1::2]
        made = torch.stack([cos * a - sin * b, sin * a + cos * b], -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        made = torch.cat([cos * a - sin * b, sin * a + cos * b], -1)
    z = torch.cat([made, rest], -1)
    return _merged(z) if flat else z


ROWS: Mapping[str, Row] = {"Attention": Row(attention), "RotaryEmbedding": Row(rotary)}

"""Transformers of architectures.py: ViT and a LLaMA-style decoder.

Head counts in `forward` come from the tensors where they can, so that a pruned module still runs.
"""
# ruff: noqa: D102 - forward is torch's name for what the class says.

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
VOCABULARY = 256


class Attention(nn.Module):
    """Self-attention with one projection for Q, K and V, or with three."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        if fused:
            self.qkv = nn.Linear(width, 3 * width)
        else:
            self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Any:
        batch, tokens, _ = x.shape
        if self.fused:
            rows = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1)
            q, k, v = rows.permute(2, 0, 3, 1, 4).unbind(0)
        else:
            rows = [f(x).reshape(batch, tokens, self.heads, -1) for f in (self.q, self.k, self.v)]
            q, k, v = (r.transpose(1, 2) for r in rows)
        x = functional.scaled_dot_product_attention(q, k, v)
        return self.out(x.transpose(1, 2).reshape(batch, tokens, -1))


class Encoder(nn.Module):
    """Transformer block, norms first."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, fused)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Any:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches of 4 x 4, class token, learnt positions (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self, fused: bool, width: int = 96, heads: int = 4, depth: int = 4) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 65, width))
        self.blocks = nn.Sequential(*(Encoder(width, heads, fused) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Any:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.fc(self.norm(self.blocks(x))[:, 0])


class RMSNorm(nn.Module):
    """Root mean square norm, as exported from the usual implementations."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Any:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)


class GroupedAttention(nn.Module):
    """Causal grouped-query attention with rotary embedding."""

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, heads: int, groups: int, tokens: int) -> None:
        super().__init__()
        self.size = width // heads
        self.q, self.o = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(width, groups * self.size, bias=False) for _ in range(2))
        rates = 10000 ** (-torch.arange(0, self.size, 2) / self.size)
        angles = torch.outer(torch.arange(tokens), rates).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def rotate(self, x: Tensor) -> Tensor:
        """Turn the pairs (i, i + size / 2) by the angles of the positions."""
        first, second = x[..., : self.size // 2], x[..., self.size // 2 :]
        return x * self.cos + torch.cat([-second, first], -1) * self.sin

    def spread(self, x: Tensor, heads: int) -> Tensor:
        """Repeat each key-value head for its query heads."""
        batch, groups, tokens, size = x.shape
        wide = x[:, :, None].expand(batch, groups, heads // groups, tokens, size)
        return wide.reshape(batch, heads, tokens, size)

    def forward(self, x: Tensor) -> Any:
        batch, tokens, _ = x.shape
        rows = [f(x).reshape(batch, tokens, -1, self.size) for f in (self.q, self.k, self.v)]
        q, k, v = (r.transpose(1, 2) for r in rows)
        q, heads = self.rotate(q), q.shape[1]
        k, v = self.spread(self.rotate(k), heads), self.spread(v, heads)
        x = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(x.transpose(1, 2).reshape(batch, tokens, -1))


class Decoder(nn.Module):
    """Block with RMSNorm, grouped-query attention and SwiGLU."""

    def __init__(self, width: int, heads: int, groups: int, hidden: int, tokens: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attention = GroupedAttention(width, heads, groups, tokens)
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Any:
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """Two decoder blocks between an embedding and a head (Touvron et al., 2023)."""

    def __init__(self, width: int = 128, tokens: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.Sequential(*(Decoder(width, 8, 2, 344, tokens) for _ in range(2)))
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Any:
        return self.head(self.norm(self.blocks(self.embedding(tokens))))


def vit_heads(net: Any) -> dict[str, Any]:
    """Heads of every projection of Q, K and V."""
    found = [m for m in net.modules() if isinstance(m, Attention)]
    layers = {f: m.heads for m in found for f in ([m.qkv] if m.fused else [m.q, m.k, m.v])}
    return {"num_heads": layers}


def llama_heads(net: Any) -> dict[str, Any]:
    """Whole heads, because rotary embedding pairs the positions within one."""
    found = [m for m in net.modules() if isinstance(m, GroupedAttention)]
    layers = {f: f.out_features // m.size for m in found for f in (m.q, m.k, m.v)}
    whole = {"prune_num_heads": True, "prune_head_dims": False, "head_pruning_ratio": 0.5}
    return {"num_heads": layers, **whole}

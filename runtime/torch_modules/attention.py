"""What a torch.nn.MultiheadAttention becomes when it is narrower inside than outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunec.compiler.errors import PlanError
from prunec.runtime.torch_modules.cut import CutTensor

PACKED = 3  # queries, keys and values, in this order


class SlicedAttention(nn.Module):
    """Attention with the interface and state-dict names of `torch.nn.MultiheadAttention`.

    Heads may have other sizes for queries and keys than for values, and together another size than
    the input; scores keep the dense scale. Inputs (L, N, E), or (N, L, E) with batch_first.
    """

    # What torch's encoder layers ask before they take a fused path that knows no such sizes.
    _qkv_same_embed_dim = False

    def __init__(self, dense: nn.MultiheadAttention, heads: int, widths: tuple[int, int]) -> None:
        """widths: of all heads together, of queries (or keys) and of values."""
        super().__init__()
        self.in_proj_weight, self.in_proj_bias = dense.in_proj_weight, dense.in_proj_bias
        self.out_proj = nn.Linear(widths[1], len(dense.out_proj.weight), device="meta")
        self.out_proj.weight, self.out_proj.bias = dense.out_proj.weight, dense.out_proj.bias
        self.num_heads, self.widths = heads, widths
        self.embed_dim = dense.in_proj_weight.shape[1]
        self.batch_first, self.dropout = dense.batch_first, dense.dropout
        self.scale = dense.head_dim**-0.5
        self.training = dense.training

    @classmethod
    def of(
        cls, name: str, dense: nn.MultiheadAttention, own: Mapping[str, CutTensor]
    ) -> SlicedAttention:
        """From a module whose tensors are sliced. Raises PlanError for what has no such form."""
        if dense.in_proj_weight is None or dense.bias_k is not None or dense.add_zero_attn:
            raise PlanError(
                f"{name!r}: an attention with separate projections, added biases or zeros cannot "
                "be sliced; --keep it"
            )
        cut = own.get("in_proj_weight")
        heads, widths = dense.num_heads, (dense.embed_dim, dense.embed_dim)
        if cut is not None and 0 in cut.slices:
            left = _heads(cut.slices[0], PACKED * dense.num_heads, cut.shape[0])
            rows = [left[k * heads : (k + 1) * heads] for k in range(PACKED)]
            kept = [[k for k, n in enumerate(part) if n] for part in rows]
            sizes = [{n for n in part if n} for part in rows]
            alike = kept[0] == kept[1] == kept[2] and sizes[0] == sizes[1]
            if not alike or any(len(size) != 1 for size in sizes):
                raise PlanError(f"{name!r}: heads would differ in size; make the plan with --heads")
            heads = len(kept[0])
            widths = (heads * min(sizes[0]), heads * min(sizes[2]))
        return cls(dense, heads, widths)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `torch.nn.MultiheadAttention`; is_causal is a hint there, and attn_mask says it."""
        single = query.dim() == 2
        q, k, v = (
            x.unsqueeze(0) if single else x if self.batch_first else x.transpose(0, 1)
            for x in (query, key, value)
        )
        if single and key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
        q, k, v = self._projected(q, k, v)
        scores = self._masked((q * self.scale) @ k.transpose(-1, -2), attn_mask, key_padding_mask)
        shares = functional.dropout(scores.softmax(-1), self.dropout, self.training)
        out = self.out_proj((shares @ v).transpose(1, 2).flatten(2))
        out = out.squeeze(0) if single else out if self.batch_first else out.transpose(0, 1)
        if not need_weights:
            return out, None
        shares = shares.mean(1) if average_attn_weights else shares
        return out, shares.squeeze(0) if single else shares

    def _projected(self, q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
        """Three of (N, heads, L, size)."""
        sizes = [self.widths[0], self.widths[0], self.widths[1]]
        weights = torch.split(self.in_proj_weight, sizes)
        biases: Sequence[Tensor | None] = [None] * PACKED
        if self.in_proj_bias is not None:
            biases = torch.split(self.in_proj_bias, sizes)
        rows = [
            functional.linear(x, w, b) for x, w, b in zip((q, k, v), weights, biases, strict=True)
        ]
        return [torch.unflatten(row, -1, (self.num_heads, -1)).transpose(1, 2) for row in rows]

    def _masked(self, scores: Tensor, mask: Tensor | None, padding: Tensor | None) -> Tensor:
        """Boolean masks: True is not looked at; others are added."""
        if mask is not None:
            if mask.dim() == 3:  # (N * heads, L, S), of all heads or of those that are left
                mask = torch.unflatten(mask, 0, (scores.shape[0], -1))
                if mask.shape[1] != self.num_heads:
                    raise ValueError("a mask of its own for each head does not fit fewer heads")
            scores = _with(scores, mask)
        return scores if padding is None else _with(scores, padding[:, None, None])


def _with(scores: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return scores.masked_fill(mask, float("-inf"))
    return scores + mask


def _heads(kept: tuple[int, ...], blocks: int, total: int) -> list[int]:
    """How many indices are left of each block."""
    left = [0] * blocks
    for index in kept:
        left[index * blocks // total] += 1
    return left

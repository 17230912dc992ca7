"""Head counts and widths that modules with their own attention code keep as attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from prunec.compiler.errors import PlanError
from prunec.runtime.torch_modules.attention import SlicedAttention
from prunec.runtime.torch_modules.blocks import whole_blocks
from prunec.runtime.torch_modules.cut import Cut, CutTensor

COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads")
SIZES = ("attention_head_size", "head_dim", "head_size", "dim_head", "dim_per_head")
# Of all heads together.
INNER = ("all_head_size", "inner_dim", "attn_dim", "split_size", "embed_dim")
# Of what a block of layers reads and writes.
WIDTHS = ("hidden_dim", "hidden_size", "embed_dim", "num_features", "d_model", "n_embd", "dim")


def fit_heads(module: nn.Module, cut: Cut) -> None:
    """Lower the head counts of modules whose own projections lost whole heads.

    Raises PlanError where a part of a head leaves: such code has one size for all.
    """
    for name, part in module.named_modules():
        counts = [n for n in COUNTS if isinstance(vars(part).get(n), int)]
        if not counts or isinstance(part, SlicedAttention):
            continue
        heads = int(vars(part)[counts[0]])
        projections = list(_projections(name, part, cut))
        if not projections:
            continue
        left = {_left(label, kept, heads, total, part) for label, kept, total in projections}
        if len(left) > 1:
            raise PlanError(f"{name!r}: its projections keep {sorted(left)} heads")
        for attribute in counts:
            if vars(part)[attribute] == heads:
                setattr(part, attribute, min(left))
        size = _size(part, heads, projections[0][2])
        for attribute in INNER:
            if vars(part).get(attribute) == heads * size:
                setattr(part, attribute, min(left) * size)


def _projections(name: str, part: nn.Module, cut: Cut) -> Iterator[tuple[str, Sequence[int], int]]:
    """Label, kept outputs and all outputs of direct children that make heads.

    Those that lost outputs by whole heads, and not the one that merges them again: it lost inputs.
    """
    for child, layer in part.named_children():
        label = f"{name}.{child}" if name else child
        found = cut.get(f"{label}.weight")
        if found is None or len(found.shape) != 2:
            continue
        axis = 0 if isinstance(layer, nn.Linear) else 1  # Conv1D of Hugging Face is transposed
        if axis in found.slices and 1 - axis not in found.slices:
            yield label, found.slices[axis], found.shape[axis]


def _size(part: nn.Module, heads: int, total: int) -> int:
    known: Mapping[str, Any] = vars(part)
    return next((int(known[n]) for n in SIZES if isinstance(known.get(n), int)), total // heads)


def _left(label: str, kept: Sequence[int], heads: int, total: int, part: nn.Module) -> int:
    """Heads that a projection keeps; one that makes queries, keys and values has them thrice."""
    size = _size(part, heads, total)
    if total % (heads * size):
        return heads  # fewer key and value heads than query heads have a count of their own
    packs = total // (heads * size)
    blocks = whole_blocks(label, kept, size, total)
    packed = [tuple(b - p * heads for b in blocks if b // heads == p) for p in range(packs)]
    if len(set(packed)) > 1:
        raise PlanError(f"{label!r}: queries, keys and values keep different heads")
    return len(packed[0])


def fit_widths(module: nn.Module, cut: Cut) -> None:
    """Set usual names of widths where all tensors below that had this width were cut alike."""
    for name, part in module.named_modules():
        wanted = [n for n in WIDTHS if type(vars(part).get(n)) is int]
        if not wanted or isinstance(part, SlicedAttention) or list(_own(name, cut)):
            continue
        head = f"{name}." if name else ""
        below = [c for n, c in cut.items() if n.startswith(head)]
        for attribute in wanted:
            new = _agreed(below, int(vars(part)[attribute]))
            if new is not None:
                setattr(part, attribute, new)


def _own(name: str, cut: Cut) -> Iterator[str]:
    head = f"{name}." if name else ""
    return (n for n in cut if n.startswith(head) and "." not in n[len(head) :])


def _agreed(cuts: Sequence[CutTensor], width: int) -> int | None:
    kept = {c.slices.get(axis) for c in cuts for axis, size in enumerate(c.shape) if size == width}
    found = kept.pop() if len(kept) == 1 else None
    return None if found is None else len(found)

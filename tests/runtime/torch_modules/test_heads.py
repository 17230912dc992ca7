from __future__ import annotations

import pytest

from prunec.compiler.errors import PlanError

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402 - only where it is installed

from prunec.runtime.torch_modules.cut import cut_tensors  # noqa: E402
from prunec.runtime.torch_modules.heads import fit_heads, fit_widths  # noqa: E402
from prunec.runtime.torch_modules.match import Match  # noqa: E402

WITHOUT_FIRST = tuple(range(4, 16))  # of four heads of four


class Attention(nn.Module):
    def __init__(self, packs: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.embed_dim = 4, 4, 16
        self.qkv, self.merge = nn.Linear(16, packs * 16), nn.Linear(16, 16)


def fitted(module: nn.Module, kept: tuple[int, ...]) -> nn.Module:
    found = {"qkv.weight": Match("", False, {0: kept}), "qkv.bias": Match("", False, {0: kept})}
    fit_heads(module, cut_tensors(module, found))
    return module


def test_counts_and_inner_widths_follow_whole_heads() -> None:
    module = fitted(Attention(1), WITHOUT_FIRST)
    assert (module.num_heads, module.head_dim, module.embed_dim) == (3, 4, 12)


def test_a_packed_projection_has_every_head_thrice() -> None:
    module = fitted(Attention(3), tuple(k for k in range(48) if k % 16 >= 4))
    assert (module.num_heads, module.embed_dim) == (3, 12)


def test_packed_heads_must_be_the_same() -> None:
    with pytest.raises(PlanError, match="queries, keys and values keep different heads"):
        fitted(Attention(3), tuple(range(4, 48)))


def test_a_part_of_a_head_is_refused() -> None:
    with pytest.raises(PlanError, match="positions within heads leave"):
        fitted(Attention(1), tuple(range(1, 16)))


def test_a_width_is_set_where_all_below_agree() -> None:
    module = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 6))
    module.hidden_size = 6
    kept = (0, 1, 5)
    found = {"0.weight": {1: kept}, "1.weight": {0: kept, 1: kept}, "1.bias": {0: kept}}
    cut = cut_tensors(module, {name: Match("", False, axes) for name, axes in found.items()})
    fit_widths(module, cut)
    assert module.hidden_size == 3


def test_a_width_that_means_two_things_is_left_alone() -> None:
    module = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    module.hidden_size = 6
    found = {"0.weight": {0: (0, 1)}, "0.bias": {0: (0, 1)}, "1.weight": {1: (0, 1)}}
    cut = cut_tensors(module, {name: Match("", False, axes) for name, axes in found.items()})
    fit_widths(module, cut)
    assert module.hidden_size == 6

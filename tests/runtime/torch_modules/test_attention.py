from __future__ import annotations

from typing import Any

import pytest

from prunec.compiler.errors import PlanError

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402 - only where it is installed

from prunec.runtime.torch_modules.attention import SlicedAttention  # noqa: E402
from prunec.runtime.torch_modules.cut import CutTensor  # noqa: E402


@pytest.fixture
def dense() -> nn.MultiheadAttention:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(16, 4, batch_first=True)
    nn.init.normal_(module.in_proj_bias)
    return module.eval()


def masks() -> list[dict[str, Any]]:
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3:] = True
    return [
        {},
        {"attn_mask": causal},
        {"attn_mask": torch.randn(5, 5)},
        {"attn_mask": torch.randn(2 * 4, 5, 5)},
        {"key_padding_mask": padding, "attn_mask": causal},
        {"average_attn_weights": False},
    ]


@pytest.mark.parametrize("case", range(6))
def test_uncut_it_is_the_attention_of_torch(dense: nn.MultiheadAttention, case: int) -> None:
    options, x = masks()[case], torch.randn(2, 5, 16)
    same = SlicedAttention.of("a", dense, {})
    for ours, theirs in zip(same(x, x, x, **options), dense(x, x, x, **options), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_sequence_first_and_unbatched_inputs(dense: nn.MultiheadAttention) -> None:
    dense.batch_first = False
    same = SlicedAttention.of("a", dense, {})
    for x in (torch.randn(5, 2, 16), torch.randn(5, 16)):
        ours, theirs = same(x, x, x), dense(x, x, x)
        torch.testing.assert_close(ours[0], theirs[0])
        torch.testing.assert_close(ours[1], theirs[1])
        assert same(x, x, x, need_weights=False)[1] is None


def test_heads_of_unequal_sizes_are_refused(dense: nn.MultiheadAttention) -> None:
    kept = tuple(k for k in range(48) if k not in (0, 16))  # of head 0 in queries and keys only
    with pytest.raises(PlanError, match="heads would differ in size"):
        SlicedAttention.of("a", dense, {"in_proj_weight": CutTensor((48, 16), {0: kept})})


def test_a_removed_head_adds_nothing(dense: nn.MultiheadAttention) -> None:
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        dense.out_proj.weight[:, :4] = 0
    want = dense(x, x, x, need_weights=False)[0]
    kept = tuple(k for k in range(48) if k % 16 >= 4)
    cut = {"in_proj_weight": CutTensor((48, 16), {0: kept})}
    dense.in_proj_weight = nn.Parameter(dense.in_proj_weight[list(kept)])
    dense.in_proj_bias = nn.Parameter(dense.in_proj_bias[list(kept)])
    dense.out_proj.weight = nn.Parameter(dense.out_proj.weight[:, 4:])
    slim = SlicedAttention.of("a", dense, cut)
    assert (slim.num_heads, slim.out_proj.in_features) == (3, 12)
    torch.testing.assert_close(slim(x, x, x, need_weights=False)[0], want)


def test_an_encoder_layer_of_torch_takes_it(dense: nn.MultiheadAttention) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    x = torch.randn(2, 5, 16)
    want = layer(x)
    layer.self_attn = SlicedAttention.of("a", layer.self_attn, {})
    torch.testing.assert_close(layer(x), want)


def test_separate_projections_are_refused() -> None:
    module = nn.MultiheadAttention(16, 4, kdim=8, vdim=8)
    with pytest.raises(PlanError, match="separate projections"):
        SlicedAttention.of("a", module, {})

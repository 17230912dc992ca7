from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from prunec.compiler.errors import PlanError

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402 - only where it is installed

from prunec.runtime.torch_modules.attributes import ROWS, fit_attributes, whole_groups  # noqa: E402
from prunec.runtime.torch_modules.cut import cut_tensors  # noqa: E402
from prunec.runtime.torch_modules.match import Match  # noqa: E402


def cut(module: nn.Module, slices: dict[str, dict[int, tuple[int, ...]]]) -> Any:
    found = {name: Match(name, False, axes) for name, axes in slices.items()}
    return fit_attributes(module, cut_tensors(module, found))


FIRST, HALF = (0, 1, 2, 3), (0, 2)
LSTM = {"weight_ih_l0": {0: (0, 2, 4, 6)}, "weight_hh_l0": {0: (0, 2, 4, 6), 1: (0,)}}
# Class -> module, slices, the attributes that must come out.
CASES: dict[type, tuple[Callable[[], nn.Module], dict[str, Any], dict[str, Any]]] = {
    nn.Linear: (
        lambda: nn.Linear(6, 8),
        {"weight": {0: HALF, 1: FIRST}, "bias": {0: HALF}},
        {"out_features": 2, "in_features": 4},
    ),
    nn.Bilinear: (
        lambda: nn.Bilinear(3, 4, 5),
        {"weight": {1: HALF}},
        {"in1_features": 2, "in2_features": 4, "out_features": 5},
    ),
    nn.modules.conv._ConvNd: (
        lambda: nn.Conv1d(8, 8, 3, groups=4),
        {"weight": {0: FIRST}, "bias": {0: FIRST}},
        {"groups": 2, "in_channels": 4, "out_channels": 4},
    ),
    nn.modules.batchnorm._NormBase: (
        lambda: nn.BatchNorm1d(6, affine=False),
        {"running_mean": {0: FIRST}, "running_var": {0: FIRST}},
        {"num_features": 4},
    ),
    nn.LayerNorm: (
        lambda: nn.LayerNorm(6),
        {"weight": {0: FIRST}, "bias": {0: FIRST}},
        {"normalized_shape": (4,)},
    ),
    nn.RMSNorm: (lambda: nn.RMSNorm(6), {"weight": {0: FIRST}}, {"normalized_shape": (4,)}),
    nn.GroupNorm: (
        lambda: nn.GroupNorm(3, 6),
        {"weight": {0: FIRST}, "bias": {0: FIRST}},
        {"num_groups": 2, "num_channels": 4},
    ),
    nn.Embedding: (
        lambda: nn.Embedding(9, 6),
        {"weight": {1: FIRST}},
        {"num_embeddings": 9, "embedding_dim": 4},
    ),
    nn.EmbeddingBag: (lambda: nn.EmbeddingBag(9, 6), {"weight": {1: HALF}}, {"embedding_dim": 2}),
    nn.PReLU: (lambda: nn.PReLU(6), {"weight": {0: FIRST}}, {"num_parameters": 4}),
    nn.RNNBase: (lambda: nn.LSTM(3, 2, bias=False), LSTM, {"hidden_size": 1, "input_size": 3}),
}


@pytest.mark.parametrize("kind", [kind for kind, _ in ROWS], ids=lambda kind: kind.__name__)
def test_each_row_sets_the_sizes(kind: type) -> None:
    make, slices, want = CASES[kind]
    module = cut(make(), slices)
    assert isinstance(module, kind)
    assert {name: getattr(module, name) for name in want} == want


def test_a_sliced_lstm_runs_with_its_new_weights() -> None:
    module = cut(nn.LSTM(3, 2, bias=False), LSTM)
    assert module(torch.randn(4, 1, 3))[0].shape == (4, 1, 1)


def test_a_transposed_convolution_counts_inputs_first() -> None:
    module = cut(nn.ConvTranspose2d(8, 6, 2), {"weight": {0: FIRST, 1: HALF}, "bias": {0: HALF}})
    assert (module.in_channels, module.out_channels) == (4, 2)


def test_groups_of_unequal_sizes_are_refused() -> None:
    assert whole_groups("c", (0, 1, 4, 5), 4, 8) == 2
    with pytest.raises(PlanError, match=r"'c': its groups would be of sizes \[1, 2\]"):
        whole_groups("c", (0, 1, 4), 4, 8)


def test_kernel_positions_are_refused() -> None:
    with pytest.raises(PlanError, match="rows or columns of its kernel"):
        cut(nn.Conv2d(3, 4, 3), {"weight": {2: (1, 2)}})


def test_a_shared_tensor_stays_shared() -> None:
    module = nn.ModuleDict({"a": nn.Embedding(9, 6), "b": nn.Linear(6, 9, bias=False)})
    module["b"].weight = module["a"].weight
    slim = cut(module, {"a.weight": {1: FIRST}})
    assert slim["a"].weight is slim["b"].weight
    assert (slim["a"].embedding_dim, slim["b"].in_features) == (4, 4)


def test_a_shared_tensor_that_is_cut_in_two_ways_is_refused() -> None:
    module = nn.ModuleDict({"a": nn.Embedding(9, 6), "b": nn.Linear(6, 9, bias=False)})
    module["b"].weight = module["a"].weight
    with pytest.raises(PlanError, match="is shared"):
        cut(module, {"a.weight": {1: FIRST}, "b.weight": {1: HALF}})


def test_frozen_parameters_stay_frozen() -> None:
    module = nn.Linear(6, 8)
    module.weight.requires_grad_(False)
    assert not cut(module, {"weight": {1: HALF}}).weight.requires_grad

"""Gradients: those of the modules that models come from, and finite differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from view_cases import CASES, Case  # noqa: E402 - after the check for torch

from prunec.frontends.torch import from_torch  # noqa: E402
from prunec.runtime.torch_view import torch_view  # noqa: E402
from prunec.runtime.torch_view.ops import ROWS  # noqa: E402
from prunec.runtime.torch_view.tensors import from_numpy  # noqa: E402

EXOTIC = (
    "Attention-23-causal",
    "AveragePool-21-counted_ceil",
    "Col2Im-21",
    "ConvTranspose-21-asymmetric",
    "CumSum-21-reverse_exclusive",
    "DFT-17-onesided",
    "Einsum-21-diagonal",
    "GRU-21-before",
    "GRU-21-bidirectional",
    "GatherND-21-batch",
    "GridSample-20-reflection",
    "GroupNormalization-18",
    "LRN-21",
    "LSTM-21-functions",
    "LSTM-21-peepholes",
    "LSTM-21-reverse_lengths",
    "LayerNormalization-21-outputs",
    "LpPool-21-asymmetric",
    "MaxPool-21-asymmetric",
    "Pad-21-reflect",
    "RNN-21-reverse",
    "ReduceLogSumExp-21",
    "Resize-21-cubic_half_pixel_1",
    "Resize-21-crop",
    "Resize-21-linear_asymmetric_0",
    "ReverseSequence-21",
    "RoiAlign-10",
    "ScatterND-21",
    "Selu-21",
    "Softmax-11-flattened",
    "TopK-21",
)
NAMED = {case.name: case for case in CASES}


def doubled(case: Case) -> Case:
    """The case in float64, where finite differences say something, and small."""
    host = ROWS[case.op].host
    inputs = [
        x.astype(np.float64) if x is not None and x.dtype == np.float32 and k not in host else x
        for k, x in enumerate(case.inputs)
    ]
    if inputs[0] is not None and inputs[0].shape == (2, 6, 7, 9):
        small = inputs[0][:, :, :5, :5] if case.op != "LayerNormalization" else inputs[0][:1, :2]
        inputs[0] = np.ascontiguousarray(small)
    return replace(case, inputs=inputs)


@pytest.mark.parametrize("name", EXOTIC)
def test_gradients_are_finite_differences(name: str) -> None:
    case = doubled(NAMED[name])
    view = torch_view(case.model()).double().eval()
    feeds = {k: from_numpy(x) for k, x in case.feeds().items()}
    floats = {k: x.requires_grad_() for k, x in feeds.items() if x.dtype == torch.float64}

    def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made = view({**feeds, **dict(zip(floats, inputs, strict=True))})
        return tuple(y for y in made.values() if y.is_floating_point())

    # One random direction a tensor: the whole Jacobian of a recurrent net takes seconds.
    assert torch.autograd.gradcheck(run, tuple(floats.values()), fast_mode=True)


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(11, 6)
        self.lstm = torch.nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.gru = torch.nn.GRU(10, 4, batch_first=True)
        self.out = torch.nn.Linear(4, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(self.gru(self.lstm(self.embed(tokens))[0])[0])


class Decoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = torch.nn.Conv2d(2, 8, 3, stride=2, padding=1)
        self.norm = torch.nn.GroupNorm(2, 8)
        self.up = torch.nn.ConvTranspose2d(8, 8, 3, 2, 1, 1)
        self.shuffle = torch.nn.PixelShuffle(2)
        self.slope = torch.nn.PReLU(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.up(self.norm(self.down(x)))
        z = torch.nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")
        return self.slope(self.shuffle(y)) + z


class Attending(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.LayerNorm(8)
        self.qkv = torch.nn.Linear(8, 24)
        self.out = torch.nn.Linear(8, 8)
        self.token = torch.nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        heads = self.qkv(self.first(x)).reshape(x.shape[0], -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(*heads.unbind(0))
        return x + torch.nn.functional.gelu(self.out(y.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize(
    ("make", "example"),
    [
        (Recurrent, torch.randint(0, 11, (2, 5))),
        (Decoder, torch.randn(2, 2, 8, 8)),
        (Attending, torch.randn(2, 5, 8)),
    ],
    ids=["recurrent", "decoder", "attention"],
)
def test_gradients_are_those_of_the_module(
    make: type[torch.nn.Module], example: torch.Tensor
) -> None:
    torch.manual_seed(0)
    module = make()
    view = torch_view(from_torch(module, (example,))).train()
    want, (have,) = module(example), view({"input": example}).values()
    torch.testing.assert_close(have, want)
    want.square().sum().backward()
    have.square().sum().backward()
    total = sum(float(p.grad.square().sum()) for p in module.parameters() if p.grad is not None)
    found = sum(float(p.grad.square().sum()) for p in view.parameters() if p.grad is not None)
    assert len(list(view.parameters())) <= len(list(module.parameters()))
    assert found > 0
    own = dict(module.named_parameters())
    same = [n for n, p in view.named_parameters() if n in own and p.shape == own[n].shape]
    for name in same:
        torch.testing.assert_close(view.get_parameter(name).grad, own[name].grad)
    if len(same) == len(own):
        assert found == pytest.approx(total, rel=1e-4)

"""Modules whose convolutions get groups: `example_inputs` makes the proof."""

from __future__ import annotations

from typing import Any

import pytest

import prunec
from prunec.compiler.errors import PlanError, UsageError

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
from torch import nn  # noqa: E402 - only where it is installed


class Residual(nn.Module):
    """A block with a residual sum and a depthwise convolution, which stays what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = nn.Conv2d(8, 12, 3, padding=1)
        self.act = nn.PReLU(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.two = nn.Conv2d(12, 8, 1, bias=False)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.stem(x))
        x = x + self.two(self.depthwise(self.act(self.one(x))))
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def image() -> Any:
    torch.manual_seed(0)
    return torch.randn(2, 3, 8, 8)


def test_a_module_gets_groups_and_the_order_of_its_channels(image: Any) -> None:
    module = Residual().eval()
    dense = prunec.load(module, (image,))
    plan = prunec.plan(dense, "", prunec.Options(grouping=prunec.Grouping(conv=2)))
    small: Any = plan.apply_to(module, (image,))
    assert [m.groups for m in (small.stem, small.one, small.depthwise, small.two)] == [1, 2, 12, 2]
    assert small.one.weight.shape == (12, 4, 3, 3)
    assert module.one.groups == 1
    small(image).sum().backward()
    assert small.two.weight.grad.shape == (8, 6, 1, 1)


def test_channels_leave_and_the_rest_gets_groups(image: Any) -> None:
    module = Residual().eval()
    dense = prunec.load(module, (image,))
    result = prunec.prune(dense, "flops=0.35", grouping=2, align=1, verify=False)
    assert any(len(e.positions) < e.size for e in result.plan.hyperedges.values())
    small: Any = prunec.apply_to(result.plan, module, image, weights=result.model)
    assert small.one.groups == 2
    assert small.one.out_channels % 2 == 0


def test_what_has_no_place_in_a_module_is_refused(image: Any) -> None:
    module = Residual().eval()
    dense = prunec.load(module, (image,))
    free = prunec.Grouping(conv=2, fold="free")
    plan = prunec.plan(dense, "", prunec.Options(grouping=free))
    with pytest.raises(PlanError, match="--group-fold joint"):
        plan.apply_to(module, (image,))
    with pytest.raises(UsageError, match="example inputs"):
        plan.apply_to(module)

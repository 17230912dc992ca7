"""Modules come in with parameter names, with BatchNormalization, and are left as found."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from prunec.compiler.errors import MissingDependencyError, ModelError, UsageError
from prunec.frontends.torch import from_torch

torch = pytest.importorskip("torch")


class Residual(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = torch.nn.BatchNorm2d(8)
        self.conv2 = torch.nn.Conv2d(8, 8, 3, padding=1)
        self.fc = torch.nn.Linear(8, 5)

    def forward(self, x):
        a = torch.relu(self.bn(self.conv(x)))
        return self.fc((a + self.conv2(a)).mean((2, 3)))


@pytest.fixture(scope="module")
def module() -> Residual:
    torch.manual_seed(0)
    return Residual()


def test_parameter_names_and_batch_normalization_are_kept(module: Residual) -> None:
    model = from_torch(module, (torch.randn(2, 3, 8, 8),))
    names = {name for name in module.state_dict() if not name.endswith("num_batches_tracked")}
    assert set(model.graph.initializers) == names
    assert [node.op_type for node in model.graph].count("BatchNormalization") == 1
    for name, tensor in module.state_dict().items():
        if name in names:
            loaded = model.graph.initializers[name].const_value
            assert loaded is not None
            np.testing.assert_array_equal(loaded.numpy(), tensor.numpy())


def test_the_batch_is_symbolic_on_request(module: Residual) -> None:
    image = (torch.randn(2, 3, 8, 8),)
    shape = from_torch(module, image).graph.inputs[0].shape
    assert shape is not None
    assert str(shape[0]) == "batch"
    fixed = from_torch(module, image, dynamic_batch=False).graph.inputs[0].shape
    assert fixed is not None
    assert fixed[0] == 2


def test_the_module_is_left_as_found(module: Residual) -> None:
    module.train()
    module.conv2.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    from_torch(module, (torch.randn(2, 3, 8, 8),))
    assert module.training and module.bn.training and not module.conv2.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_a_module_that_fails_is_a_model_error(module: Residual) -> None:
    with pytest.raises(ModelError, match="Residual: torch cannot export it"):
        from_torch(module, (torch.randn(2, 4, 8, 8),))


def test_wrong_arguments_are_usage_errors(module: Residual) -> None:
    with pytest.raises(UsageError, match=r"needs a torch\.nn\.Module, not dict"):
        from_torch({}, (torch.randn(1),))
    with pytest.raises(UsageError, match="as a tuple"):
        from_torch(module, torch.randn(1))


def test_missing_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch, module: Residual) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"prunec\[torch\]"):
        from_torch(module, (None,))

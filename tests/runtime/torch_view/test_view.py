"""The view as a module: what it gives, what can be edited, how it behaves under torch's tools."""

from __future__ import annotations

import copy
import weakref

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")


from view_models import model_of, node  # noqa: E402 - after the check for torch

import prunec  # noqa: E402
from prunec.compiler.errors import ModelError, UsageError  # noqa: E402
from prunec.frontends.torch import from_torch  # noqa: E402
from prunec.runtime.torch_view import TorchView, torch_view  # noqa: E402

W = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
X = {"x": torch.randn(3, 4, generator=torch.Generator().manual_seed(0))}


def three() -> TorchView:
    """x W -> a, relu -> b, a + b -> y."""
    return torch_view(
        model_of(node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("Add", "a b", "y"), w=W)
    ).eval()


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = torch.nn.BatchNorm2d(8, momentum=0.2)
        self.deep = torch.nn.Conv2d(8, 8, 3, groups=8, stride=2, padding=1)
        self.fc = torch.nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.nn.functional.hardswish(self.bn(self.conv(x)))
        return self.fc((a[:, :, ::2, ::2] + self.deep(a)).mean((2, 3)))


def only(outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    (found,) = outputs.values()
    return found


@pytest.fixture(scope="module")
def net() -> tuple[Net, TorchView]:
    torch.manual_seed(0)
    module = Net()
    return module, prunec.torch_view(from_torch(module, (torch.randn(2, 3, 8, 8),)))


def test_outputs_come_by_name() -> None:
    a = X["x"] @ torch.from_numpy(W)
    torch.testing.assert_close(three()(X), {"y": a + a.relu()})


def test_wanted_values_may_be_inside_and_inputs() -> None:
    found = three()(X, ["b", "x"])
    assert list(found) == ["b", "x"]
    torch.testing.assert_close(found["b"], (X["x"] @ torch.from_numpy(W)).relu())


def test_only_what_is_wanted_is_computed() -> None:
    def refuse(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("computed")

    assert list(three()(X, ["a"], {"b": refuse})) == ["a"]
    with pytest.raises(AssertionError, match="computed"):
        three()(X, ["y"], {"b": refuse})


@pytest.mark.parametrize("name", ["x", "w", "a"])
def test_readers_see_an_edit_of_inputs_weights_and_values(name: str) -> None:
    twice = three()(X, edits={name: lambda value: 2 * value})
    torch.testing.assert_close(twice["y"], 2 * three()(X)["y"])


def test_an_edit_of_an_output_is_seen_outside() -> None:
    assert not three()(X, edits={"y": torch.zeros_like})["y"].any()


def test_an_edit_at_a_place_is_seen_by_that_node_alone() -> None:
    found = three()(X, ["a", "b", "y"], {("the_Add", 1): torch.zeros_like})
    torch.testing.assert_close(found["y"], found["a"])
    assert found["b"].any()


@pytest.mark.parametrize("name", ["nothing", ("the_Nothing", 0)])
def test_an_edit_of_what_is_not_there_is_refused(name: object) -> None:
    with pytest.raises(UsageError, match=r"[nN]othing"):
        three()(X, edits={name: torch.zeros_like})


def test_an_edit_of_a_constant_is_refused() -> None:
    view = torch_view(model_of(node("Add", "x c", "y"), c=np.array(1, np.float32)))
    with pytest.raises(UsageError, match="constant"):
        view(X, edits={"c": torch.zeros_like})


def test_an_unknown_value_and_a_missing_feed_are_refused() -> None:
    with pytest.raises(UsageError, match="'z'"):
        three()(X, ["z"])
    with pytest.raises(UsageError, match="'x' is not fed"):
        three()({})


def test_a_value_is_let_go_after_its_last_reader() -> None:
    kept: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def remember(value: torch.Tensor) -> torch.Tensor:
        kept.append(weakref.ref(value))
        return value

    def look(value: torch.Tensor) -> torch.Tensor:
        alive.append(kept[0]() is not None)
        return value

    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("Exp", "b", "c")]
    view = torch_view(model_of(*nodes, node("Neg", "c", "y"), w=W))
    with torch.no_grad():
        view(X, edits={"a": remember, "b": look, "y": look})
    assert alive == [True, False]


@pytest.mark.parametrize("op", ["If", "Loop"])
def test_control_flow_is_refused_by_name(op: str) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]> g (float[2] x, bool c) => (float[2] y)
        { y = If (c) <then_branch = t () => (float[2] a) { a = Neg (x) },
                      else_branch = e () => (float[2] b) { b = Abs (x) }> }"""
        if op == "If"
        else """<ir_version: 8, opset_import: ["" : 18]> g (float[2] x, bool c) => (float[2] y)
        { y = Loop (, c, x) <body = t (int64 i, bool k, float[2] s) => (bool k2, float[2] a)
            { k2 = Identity (k) a = Neg (s) }> }"""
    )
    model.graph.node[0].name = "the_node"
    with pytest.raises(ModelError, match=rf"'the_node'.*{op}.*control flow"):
        torch_view(model)


def test_an_operator_that_fails_names_its_node() -> None:
    with pytest.raises(ModelError, match=r"'the_MatMul' \(MatMul\)"):
        three()({"x": torch.ones(3, 5)})


def test_training_is_that_of_the_module_it_comes_from(net: tuple[Net, TorchView]) -> None:
    module, view = (copy.deepcopy(part).train() for part in net)
    images = torch.randn(6, 3, 8, 8)
    module(images).square().sum().backward()
    only(view({"input": images})).square().sum().backward()
    for state, parameter in module.named_parameters():
        torch.testing.assert_close(view.get_parameter(state).grad, parameter.grad)
    for state in ("bn.running_mean", "bn.running_var"):
        torch.testing.assert_close(view.get_buffer(state), module.get_buffer(state))


def test_state_dicts_have_the_modules_own_names(net: tuple[Net, TorchView]) -> None:
    module, view = net
    names = {name for name in module.state_dict() if "num_batches" not in name}
    assert set(view.state_dict()) == names
    assert dict(view.names) == {name: name for name in names}
    assert {name for name, _ in view.named_parameters()} == dict(module.named_parameters()).keys()


def test_dropout_drops_in_training_only() -> None:
    told = {"r": np.array(0.25, np.float32)}
    view = torch_view(model_of(node("Dropout", "x r", "y"), **told))
    ones = torch.ones(1000, 4)
    assert torch.equal(only(view.eval()({"x": ones})), ones)
    found = only(view.train()({"x": ones}))
    assert found.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float((found == 0).float().mean()) == pytest.approx(0.25, abs=0.05)


def test_evaluation_moves_no_statistics(net: tuple[Net, TorchView]) -> None:
    view = copy.deepcopy(net[1]).eval()
    before = view.get_buffer("bn.running_mean").clone()
    view({"input": torch.randn(2, 3, 8, 8)})
    assert torch.equal(view.get_buffer("bn.running_mean"), before)


def test_copies_train_apart(net: tuple[Net, TorchView]) -> None:
    view = net[1]
    other = copy.deepcopy(view)
    with torch.no_grad():
        other.get_parameter("fc.bias").add_(1)
    images = {"input": torch.randn(2, 3, 8, 8)}
    difference = only(other.eval()(images)) - only(view.eval()(images))
    torch.testing.assert_close(difference, torch.ones_like(difference))


def test_functional_calls_and_per_sample_gradients_work(net: tuple[Net, TorchView]) -> None:
    view, images = net[1].eval(), torch.randn(3, 3, 8, 8)
    weights = {name: p.detach() for name, p in view.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        feeds = {"input": image[None]}
        return only(torch.func.functional_call(view, weights, (feeds,))).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, images)
    for k in range(3):
        alone = torch.func.grad(loss)(weights, images[k])
        torch.testing.assert_close(each["conv.weight"][k], alone["conv.weight"])


def test_mixed_precision_trains(net: tuple[Net, TorchView]) -> None:
    view, images = copy.deepcopy(net[1]).eval(), {"input": torch.randn(4, 3, 8, 8)}
    whole = only(view(images))
    with torch.autocast("cpu", torch.bfloat16):
        half = only(view(images))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), whole, rtol=0.05, atol=0.05)
    half.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in view.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_view_runs_on_cuda(net: tuple[Net, TorchView]) -> None:
    view, images = copy.deepcopy(net[1]).eval(), torch.randn(4, 3, 8, 8)
    here = only(view({"input": images}))
    there = only(view.cuda()({"input": images.cuda()}))
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-3)

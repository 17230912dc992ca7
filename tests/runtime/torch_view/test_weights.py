"""Which stored tensors are trained, and how they go back."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")


from view_models import model_of, node  # noqa: E402 - after the check for torch

from prunec.frontends.onnx import to_proto  # noqa: E402
from prunec.runtime.torch_view import TorchView, torch_view  # noqa: E402
from prunec.runtime.torch_view.weights import state_names  # noqa: E402

RNG = np.random.default_rng(0)


def weight(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def parameters(view: TorchView) -> set[str]:
    return {view.names[name] for name, _ in view.named_parameters()}


def move(view: TorchView) -> None:
    with torch.no_grad():
        for parameter in view.parameters():
            parameter.add_(1)


def test_weights_behind_moves_and_casts_are_trained_under_their_name() -> None:
    half = weight(4, 4).astype(np.float16)
    model = model_of(
        node("Transpose", "w", "a"),
        node("Cast", "a", "b", to=TensorProto.FLOAT),
        node("Identity", "b", "c"),
        node("MatMul", "x c", "y"),
        w=half,
    )
    view = torch_view(model)
    assert parameters(view) == {"w"}
    move(view)
    after = view.to_model().graph.initializers["w"].const_value
    assert after is not None
    assert after.numpy().dtype == np.float16
    np.testing.assert_allclose(after.numpy(), half + np.float16(1))


def test_a_weight_of_a_constant_node_is_trained_and_put_back() -> None:
    stored = numpy_helper.from_array(weight(4, 4))
    constant = helper.make_node("Constant", [], ["w"], name="the_weight", value=stored)
    view = torch_view(model_of(constant, node("MatMul", "x w", "y")))
    assert parameters(view) == {"w"}
    move(view)
    (after,) = [n for n in view.to_model().graph if n.op_type == "Constant"]
    np.testing.assert_allclose(
        after.attributes["value"].as_tensor().numpy(), numpy_helper.to_array(stored) + 1
    )


def test_a_weight_that_is_computed_is_trained_through() -> None:
    model = model_of(
        node("ReduceL2", "v", "n", keepdims=1),
        node("Div", "v n", "u"),
        node("Mul", "u g", "w"),
        node("MatMul", "x w", "y"),
        v=weight(4, 4),
        g=weight(1, 4),
    )
    view = torch_view(model)
    assert parameters(view) == {"v", "g"}
    view({"x": torch.ones(2, 4)})["y"].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in view.parameters())


@pytest.mark.parametrize(
    ("op", "constant"),
    [
        ("Add", np.float32(1e-5)),
        ("Mul", np.full((1, 1), 0.5, np.float32)),
        ("Pow", np.full(4, 2, np.float32)),
        ("Add", np.array([0, 0, -np.inf, 0], np.float32)),
        ("Max", weight(4)),
    ],
)
def test_literals_and_masks_are_not_trained(op: str, constant: np.ndarray) -> None:
    view = torch_view(model_of(node(op, "x c", "y"), c=np.asarray(constant)))
    assert not view.names


def test_running_statistics_are_buffers_and_go_back() -> None:
    vectors = {name: np.abs(weight(4)) for name in ("scale", "bias", "mean", "var")}
    model = model_of(node("BatchNormalization", "x scale bias mean var", "y"), **vectors)
    view = torch_view(model).train()
    assert parameters(view) == {"scale", "bias"}
    assert dict(view.named_buffers()).keys() >= {"mean", "var"}
    x = torch.randn(8, 4)
    view({"x": x})
    after = view.to_model().graph.initializers
    assert after["mean"].const_value is not None
    # ONNX's momentum, 0.9, is the share of what was there.
    want = 0.9 * vectors["mean"] + 0.1 * x.numpy().mean(0)
    np.testing.assert_allclose(after["mean"].const_value.numpy(), want, rtol=1e-5)


def test_all_but_the_weights_stays_as_it_was() -> None:
    model = model_of(
        node("MatMul", "x w", "a"), node("Add", "a layer.0.bias", "y"),
        w=weight(4, 4), **{"layer.0.bias": weight(4)},
    )  # fmt: skip
    model.graph.doc_string, model.producer_name = "a doc", "a producer"
    model.metadata_props.add(key="k", value="v")
    view = torch_view(model)
    assert to_proto(view.to_model()) == to_proto(torch_view(model).to_model())
    move(view)
    trained = to_proto(view.to_model())
    for tensor in trained.graph.initializer:
        before = next(t for t in model.graph.initializer if t.name == tensor.name)
        np.testing.assert_allclose(
            numpy_helper.to_array(tensor), numpy_helper.to_array(before) + 1, rtol=1e-6
        )
        tensor.CopyFrom(before)
    assert trained.graph == to_proto(torch_view(model).to_model()).graph
    assert trained.graph.doc_string == "a doc"
    assert {p.key: p.value for p in trained.metadata_props} == {"k": "v"}
    onnx.checker.check_model(trained, full_check=True)


def test_functions_are_inlined_for_the_view_and_stay_in_the_model() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18, "own" : 1]>
        g (float[2,4] x, float[4,4] w) => (float[2,4] y) { y = own.Linear (x, w) }
        <domain: "own", opset_import: ["" : 18]>
        Linear (a, b) => (d) { c = MatMul (a, b)  d = Relu (c) }"""
    )
    model.graph.initializer.append(numpy_helper.from_array(weight(4, 4), "w"))
    view = torch_view(model)
    assert parameters(view) == {"w"}
    move(view)
    after = view.to_model()
    assert len(after.functions) == 1
    assert [n.op_type for n in after.graph] == ["Linear"]


def test_a_fake_quantised_weight_gets_gradients_straight_through() -> None:
    scales, zeros = np.full(4, 0.1, np.float32), np.zeros(4, np.int8)
    model = model_of(
        node("QuantizeLinear", "w s z", "q", axis=1),
        node("DequantizeLinear", "q s z", "v", axis=1),
        node("MatMul", "x v", "y"),
        w=weight(4, 4),
        s=scales,
        z=zeros,
    )
    view = torch_view(model)
    assert parameters(view) == {"w"}
    view({"x": torch.ones(2, 4)})["y"].sum().backward()
    torch.testing.assert_close(view.get_parameter("w").grad, torch.full((4, 4), 2.0))


def test_names_that_torch_refuses_are_changed_and_told() -> None:
    class Owner(torch.nn.Module):
        names = ()

    wanted = ["a.b.weight", "a", "x..y", ".z", "names.w", "train", "/Conv_0", "float.w", "a.b"]
    made = state_names(wanted, Owner)
    assert sorted(made.values()) == sorted(wanted)
    assert {"a.b.weight", "/Conv_0"} <= {state for state, name in made.items() if state == name}
    module = Owner()
    for state in made:
        *path, last = state.split(".")
        holder: torch.nn.Module = module
        for part in path:
            if part not in dict(holder.named_children()):
                holder.add_module(part, torch.nn.Module())
            holder = holder.get_submodule(part)
        holder.register_parameter(last, torch.nn.Parameter(torch.zeros(1)))
    assert set(module.state_dict()) == set(made)

"""Sliced modules against the pruned models in onnxruntime: `example_inputs` makes that proof."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import prunec
from prunec.compiler.errors import PlanError, UsageError, VerificationError

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
from torch import nn  # noqa: E402 - only where it is installed

BUDGET = "flops=0.6"


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Small(nn.Module):
    """Depthwise and grouped convolutions, group norm, a buffer, and a tied pair of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 12, 2, 2)
        self.act = nn.PReLU(12)
        self.register_buffer("scale", torch.rand(12, 1, 1), persistent=False)
        self.fc = nn.Linear(12, 6)

    def forward(self, x: Any) -> Any:
        x = self.depthwise(torch.relu(self.bn(self.stem(x))))
        return self.fc((self.act(self.up(x)) * self.scale).mean((2, 3)))


def sliced(module: nn.Module, inputs: Any, **options: Any) -> tuple[nn.Module, Any]:
    """Prune the module's model, slice the module; the proof is part of it."""
    module.eval()
    budget = options.pop("budget", BUDGET)
    result = prunec.prune(prunec.load(module, inputs), budget, verify=False, **options)
    return result.plan.apply_to(module, inputs), result


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_attributes_follow_the_tensors_and_the_source_stays_as_it_was() -> None:
    module, x = Small(), torch.randn(2, 3, 8, 8)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    slim, _ = sliced(module, x, budget="flops=0.4", keep=r"^up\.weight:1")
    for conv in (slim.stem, slim.depthwise):
        assert tuple(conv.weight.shape[:2]) == (conv.out_channels, conv.in_channels // conv.groups)
    assert slim.stem.out_channels == slim.bn.num_features == slim.depthwise.groups < 8
    assert slim.up.weight.shape[:2] == (slim.up.in_channels, slim.up.out_channels)
    assert slim.act.num_parameters == slim.scale.shape[0] == slim.fc.in_features == 12
    assert "scale" not in slim.state_dict()
    assert module.stem.out_channels == 8
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())


def test_a_sliced_module_trains() -> None:
    slim, _ = sliced(Small(), x := torch.randn(2, 3, 8, 8))
    slim.train()
    slim(x).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in slim.parameters())


def test_in_place_changes_the_module_itself_and_only_when_all_is_well() -> None:
    module, x = Small().eval(), torch.randn(2, 3, 8, 8)
    plan = prunec.prune(prunec.load(module, x), BUDGET, verify=False).plan
    with pytest.raises(VerificationError, match="fails in forward"):
        broken = copy.deepcopy(module)
        broken.forward = lambda x: 1 / 0
        prunec.apply_to(plan, broken, x, model=prunec.load(module, x), in_place=True)
    assert (broken.up.out_channels, broken.up.weight.shape[1]) == (12, 12)
    want = prunec.apply_to(plan, module, x)(x)
    assert prunec.apply_to(plan, module, x, in_place=True) is module
    assert module.up.out_channels < 12
    assert torch.equal(module(x), want)


def test_weights_of_another_export_are_found_by_their_contents() -> None:
    module, x = (
        nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).eval(),
        torch.randn(2, 6),
    )
    dense = prunec.load(module, x)
    for name in list(dense.graph.initializers):
        value = dense.graph.initializers[name]
        value.name = f"onnx::{name.replace('.', '_')}"
    plan = prunec.prune(dense, BUDGET, verify=False).plan
    with pytest.raises(PlanError, match=r"slices 'onnx::0_weight', which the module does not have"):
        prunec.apply_to(plan, module)
    slim = prunec.apply_to(plan, module, x, model=dense)
    assert slim[0].out_features == slim[2].in_features < 16


def test_a_transposed_matrix_is_found() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 16, bias=False), nn.Linear(16, 3, bias=False)

        def forward(self, x: Any) -> Any:
            return self.b(torch.relu(self.a(x)))

    module, x = Product().eval(), torch.randn(2, 5, 6)
    made = [module.a.weight.detach().numpy().T.copy(), module.b.weight.detach().numpy().T.copy()]
    plan_model = _two_products(*made)
    plan = prunec.prune(plan_model, BUDGET, verify=False).plan
    slim = prunec.apply_to(plan, module, x, model=plan_model)
    assert slim.a.out_features == slim.b.in_features < 16


def _two_products(first: np.ndarray, second: np.ndarray) -> ir.Model:
    """x (batch, 5, 6) -> MatMul -> Relu -> MatMul, with weights as exporters fold them."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_1"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "onnx::MatMul_2"], ["y"], "second"),
    ]
    weights = {"onnx::MatMul_1": first, "onnx::MatMul_2": second}
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 5, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5, 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 9
    return prunec.load(proto)


def test_a_module_that_was_trained_since_is_refused() -> None:
    module, x = Small().eval(), torch.randn(2, 3, 8, 8)
    dense = prunec.load(module, x)
    plan = prunec.prune(dense, BUDGET, verify=False).plan
    with torch.no_grad():
        module.up.weight.add_(1)
    with pytest.raises(PlanError, match=r"weight 'up.weight' differs between the module and"):
        prunec.apply_to(plan, module, model=dense)


def test_weights_of_the_recovered_model_are_taken() -> None:
    module, x = Small().eval(), torch.randn(2, 3, 8, 8)
    result = prunec.prune(prunec.load(module, x), BUDGET, verify=False)
    for value in result.model.graph.initializers.values():
        array = value.const_value.numpy()
        if array.dtype == np.float32:
            value.const_value = ir.Tensor(array * 2, name=value.name)
    slim = prunec.apply_to(result.plan, module, x, weights=result.model)
    plain = prunec.apply_to(result.plan, module, x)
    assert torch.equal(slim.stem.weight, 2 * plain.stem.weight)
    assert torch.equal(slim.bn.running_var, 2 * plain.bn.running_var)


def test_a_size_that_only_the_code_knows_is_found_out_by_running() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 4)

        def forward(self, x: Any) -> Any:
            return self.b(torch.relu(self.a(x)).view(-1, 8 * 36))

    with pytest.raises(VerificationError, match=r"fails in forward.*holds a size"):
        sliced(Fixed(), torch.randn(2, 3, 8, 8))


def test_what_is_no_module_is_refused() -> None:
    plan = prunec.prune(prunec.load(Small().eval(), torch.randn(1, 3, 8, 8)), BUDGET, verify=False)
    with pytest.raises(UsageError, match=r"needs a torch\.nn\.Module, not dict"):
        prunec.apply_to(plan.plan, {})


def _torchvision() -> Any:
    described = torch.library.register_fake

    def describe(name: Any, *words: Any, **options: Any) -> Any:
        # A torchvision compiled for another torch lacks its compiled operators, which it describes
        # when it is imported. None of the networks here has one.
        absent = str(name).startswith("torchvision::")
        return (lambda function: function) if absent else described(name, *words, **options)

    try:
        torch.library.register_fake = describe
        import torchvision
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    finally:
        torch.library.register_fake = described
    return torchvision.models


def _vit(models: Any) -> nn.Module:
    vit = models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64,
        num_classes=10,
    )  # fmt: skip
    nn.init.normal_(vit.heads.head.weight)  # zero as made: then nothing would be compared
    return vit


def _convnext(models: Any) -> nn.Module:
    block = models.convnext.CNBlockConfig
    return models.ConvNeXt([block(16, 32, 1), block(32, None, 1)])


MODELS: dict[str, Callable[[Any], nn.Module]] = {
    "resnet18": lambda m: m.resnet18(),
    "mobilenet_v2": lambda m: m.mobilenet_v2(width_mult=0.5),
    "densenet": lambda m: m.DenseNet(8, (2, 2), 16),
    "shufflenet": lambda m: m.shufflenet_v2_x0_5(),
    "convnext": _convnext,
    "vit": _vit,
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_torchvision_models_compute_what_their_pruned_models_do(name: str) -> None:
    module = MODELS[name](_torchvision())
    slim, _ = sliced(module, torch.randn(2, 3, 32, 32))
    assert parameters(slim) < 0.9 * parameters(module)


def test_torchvision_attention_keeps_heads_or_positions_within_heads() -> None:
    models, x = _torchvision(), torch.randn(2, 3, 32, 32)
    whole, _ = sliced(_vit(models), x, heads=True)
    inner = whole.encoder.layers[0].self_attention
    assert inner.num_heads < 4
    assert inner.widths == (inner.num_heads * 8,) * 2
    assert "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" in whole.state_dict()


def _transformers() -> Any:
    try:
        import transformers

        transformers.BertModel  # noqa: B018 - loaded on access, with all that it needs
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"transformers cannot be imported: {error}")
    return transformers


class Masked(nn.Module):
    """A language model with tokens and mask by position."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Any, mask: Any) -> Any:
        return self.model(tokens, attention_mask=mask)[0]


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def _bert(t: Any) -> tuple[nn.Module, Any]:
    config = t.BertConfig(vocab_size=50, intermediate_size=64, attn_implementation="eager", **SIZES)
    return t.BertModel(config), torch.randint(0, 50, (2, 8))


def _hf_vit(t: Any) -> tuple[nn.Module, Any]:
    config = t.ViTConfig(image_size=32, patch_size=8, intermediate_size=64, num_labels=10, **SIZES)
    return t.ViTForImageClassification(config), torch.randn(2, 3, 32, 32)


def _gpt2(t: Any) -> tuple[nn.Module, Any]:
    config = t.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=4, use_cache=False,
        bos_token_id=0, eos_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    return Masked(t.GPT2Model(config)), (torch.randint(0, 50, (2, 8)), torch.ones(2, 8).long())


HUGGING_FACE = {"bert": _bert, "vit": _hf_vit, "gpt2": _gpt2}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(HUGGING_FACE))
def test_hugging_face_models_lose_whole_heads(name: str) -> None:
    module, inputs = HUGGING_FACE[name](_transformers())
    slim, _ = sliced(module, inputs, heads=True)
    counts = {
        vars(part)[attribute]
        for part in slim.modules()
        for attribute in ("num_attention_heads", "num_heads")
        if attribute in vars(part)
    }
    # What GPT-2's one projection makes is decided on as a whole, and stays at this budget.
    assert min(counts) < 4 or name == "gpt2"
    assert parameters(slim) < 0.9 * parameters(module)


@pytest.mark.filterwarnings("ignore")
def test_parts_of_heads_have_no_place_in_hugging_face_modules() -> None:
    module, inputs = _bert(_transformers())
    with pytest.raises(PlanError, match=r"positions within heads leave.*--heads"):
        sliced(module, inputs)

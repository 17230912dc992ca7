"""Attributes of modules that tell sizes, set to what their tensors have become: one row a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from prunec.compiler.errors import PlanError
from prunec.runtime.torch_modules.attention import SlicedAttention
from prunec.runtime.torch_modules.blocks import whole_blocks
from prunec.runtime.torch_modules.cut import Cut, CutTensor
from prunec.runtime.torch_modules.heads import fit_heads, fit_widths

# What was cut of a module's own tensors, by their names in it.
Own = Mapping[str, CutTensor]
Row = Callable[[str, Any, Own], None]


def fit_attributes(module: nn.Module, cut: Cut) -> nn.Module:
    """Set all attributes; attention modules of torch are replaced. Returns the module.

    Raises PlanError for what a module of its class cannot be.
    """
    for name, part in list(module.named_modules()):
        own = _own(cut, name)
        if isinstance(part, nn.MultiheadAttention):
            inside = {n: c for n, c in cut.items() if n.startswith(f"{name}." if name else "")}
            if inside:
                replaced = SlicedAttention.of(name, part, _own(cut, name))
                module = _replaced(module, name, replaced)
            continue
        if own:
            row = next((row for kind, row in ROWS if isinstance(part, kind)), _by_name)
            row(name, part, own)
    fit_heads(module, cut)
    fit_widths(module, cut)
    return module


def _own(cut: Cut, prefix: str) -> dict[str, CutTensor]:
    head = f"{prefix}." if prefix else ""
    names = {name[len(head) :]: c for name, c in cut.items() if name.startswith(head)}
    return {name: c for name, c in names.items() if "." not in name}


def _replaced(module: nn.Module, name: str, part: nn.Module) -> nn.Module:
    if not name:
        return part
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, part)
    return module


def _linear(name: str, part: nn.Linear, own: Own) -> None:
    part.out_features, part.in_features = part.weight.shape


def _bilinear(name: str, part: nn.Bilinear, own: Own) -> None:
    part.out_features, part.in1_features, part.in2_features = part.weight.shape


def _conv(name: str, part: _ConvNd, own: Own) -> None:
    cut = own.get("weight")
    if cut is None:
        return
    if any(axis > 1 for axis in cut.slices):
        raise PlanError(
            f"{name!r}: rows or columns of its kernel leave, and torch pads both sides alike; make "
            "the plan with --kernel-positions none"
        )
    # Groups lie along the axis that counts all channels: outputs, or inputs when transposed.
    kept = cut.slices.get(0, tuple(range(cut.shape[0])))
    part.groups = whole_groups(name, kept, part.groups, cut.shape[0])
    turned = isinstance(part, _ConvTransposeNd)
    whole, each = part.weight.shape[0], part.weight.shape[1] * part.groups
    part.in_channels, part.out_channels = (whole, each) if turned else (each, whole)


def whole_groups(name: str, kept: tuple[int, ...], groups: int, size: int) -> int:
    """How many groups are left. Raises PlanError unless they are equally large."""
    left = [0] * groups
    for index in kept:
        left[index * groups // size] += 1
    sizes = {n for n in left if n}
    if len(sizes) > 1:
        raise PlanError(f"{name!r}: its groups would be of sizes {sorted(sizes)}")
    return sum(n > 0 for n in left)


def _norm(name: str, part: _NormBase, own: Own) -> None:
    part.num_features = getattr(part, next(iter(own))).shape[0]


def _layer_norm(name: str, part: nn.LayerNorm | nn.RMSNorm, own: Own) -> None:
    part.normalized_shape = tuple(getattr(part, next(iter(own))).shape)


def _group_norm(name: str, part: nn.GroupNorm, own: Own) -> None:
    cut = next(iter(own.values()))
    part.num_groups = whole_groups(name, cut.slices[0], part.num_groups, cut.shape[0])
    part.num_channels = len(cut.slices[0])


def _embedding(name: str, part: nn.Embedding | nn.EmbeddingBag, own: Own) -> None:
    part.num_embeddings, part.embedding_dim = part.weight.shape


def _prelu(name: str, part: nn.PReLU, own: Own) -> None:
    part.num_parameters = part.weight.shape[0]


def _recurrent(name: str, part: nn.RNNBase, own: Own) -> None:
    gates = {"LSTM": 4, "GRU": 3}.get(part.mode, 1)
    hidden = part.hidden_size
    for tensor, cut in own.items():
        if 0 in cut.slices and not tensor.startswith("weight_hr"):
            whole_blocks(f"{name}.{tensor}", cut.slices[0], 1, cut.shape[0])
            if len(cut.slices[0]) % gates:
                raise PlanError(f"{name}.{tensor}: its {gates} gates would differ in size")
            hidden = len(cut.slices[0]) // gates
    (_, inputs) = part.get_parameter("weight_ih_l0").shape
    part.hidden_size, part.input_size = hidden, inputs
    part._flat_weights = [getattr(part, n) for n in part._flat_weights_names]


def _by_name(name: str, part: nn.Module, own: Own) -> None:
    """Modules of other packages: attributes of usual names that tell the size of an own axis.

    Such as `nf` and `nx` of Hugging Face's Conv1D, whose weight is (inputs, outputs).
    """
    cut = own.get("weight")
    if cut is not None and len(cut.shape) == 2:
        for attribute, axis in (("nf", 1), ("nx", 0)):
            if vars(part).get(attribute) == cut.shape[axis]:
                setattr(part, attribute, len(cut.slices.get(axis, range(cut.shape[axis]))))


ROWS: tuple[tuple[type[nn.Module], Row], ...] = (
    (nn.Linear, _linear),
    (nn.Bilinear, _bilinear),
    (_ConvNd, _conv),
    (_NormBase, _norm),
    (nn.LayerNorm, _layer_norm),
    (nn.RMSNorm, _layer_norm),
    (nn.GroupNorm, _group_norm),
    (nn.Embedding, _embedding),
    (nn.EmbeddingBag, _embedding),
    (nn.PReLU, _prelu),
    (nn.RNNBase, _recurrent),
)

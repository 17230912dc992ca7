"""Slice parameters and buffers of a module in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunec.compiler.errors import PlanError
from prunec.runtime.torch_modules.match import Match, Slices


@dataclass(frozen=True, slots=True)
class CutTensor:
    """What happened to one tensor: its shape before, and what was kept of which axis."""

    shape: tuple[int, ...]
    slices: Slices


# Name of the tensor in the whole module -> what was cut.
Cut = Mapping[str, CutTensor]


def cut_tensors(module: nn.Module, found: Mapping[str, Match]) -> Cut:
    """Replace all matched tensors; one that modules share stays shared.

    Raises PlanError where names of one shared tensor are cut differently.
    """
    by_id: dict[int, Slices] = {}
    for prefix, part in module.named_modules():
        for name, tensor in own_tensors(part):
            match = found.get(_join(prefix, name))
            if match is None:
                continue
            if by_id.setdefault(id(tensor), match.slices) != match.slices:
                raise PlanError(
                    f"{_join(prefix, name)!r} is shared, and the plan slices it in two ways"
                )
    made: dict[int, Tensor] = {}
    cut: dict[str, CutTensor] = {}
    # Modules that are used twice are visited under both names, so that both count as cut.
    for prefix, part in module.named_modules(remove_duplicate=False):
        for name, tensor in own_tensors(part):
            slices = by_id.get(id(tensor))
            if slices is None:
                continue
            if id(tensor) not in made:
                made[id(tensor)] = _sliced(tensor, slices)
            cut[_join(prefix, name)] = CutTensor(tuple(tensor.shape), slices)
    for part in module.modules():
        for name, tensor in own_tensors(part):
            if id(tensor) in made:
                _put(part, name, made[id(tensor)])
    return cut


def own_tensors(part: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers that the module holds itself."""
    return [
        *part.named_parameters(recurse=False, remove_duplicate=False),
        *part.named_buffers(recurse=False, remove_duplicate=False),
    ]


def _sliced(tensor: Tensor, slices: Slices) -> Tensor:
    with torch.no_grad():
        out = tensor.detach()
        for axis, kept in slices.items():
            index = torch.tensor(kept, dtype=torch.int64, device=tensor.device)
            out = out.index_select(axis, index)
        out = out.clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(out, tensor.requires_grad)
    return out


def _put(part: nn.Module, name: str, tensor: Tensor) -> None:
    if name in part._parameters:
        assert isinstance(tensor, nn.Parameter)
        setattr(part, name, tensor)
    else:
        part._buffers[name] = tensor  # by setattr a buffer would lose that it is not persistent


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name

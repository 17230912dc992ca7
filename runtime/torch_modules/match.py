"""Which tensor of a module is which weight of a plan: by name, else by contents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import Tensor, nn

from prunec.compiler.errors import PlanError
from prunec.compiler.plan import Plan
from prunec.compiler.walk import values
from prunec.runtime.torch_modules.arrays import to_array

Slices = Mapping[int, tuple[int, ...]]
REMEDY = "make the plan for prunec.load(module, example_inputs), which keeps names and layers"


@dataclass(frozen=True, slots=True)
class Match:
    """A tensor of the module. weight: its name in the model; turned: the model holds the transpose.

    slices: of the module's axes.
    """

    weight: str
    turned: bool
    slices: Slices


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; shared ones under each of their names."""
    named = dict(module.named_parameters(remove_duplicate=False))
    return {**named, **dict(module.named_buffers(remove_duplicate=False))}


def matched(plan: Plan, module: nn.Module, model: ir.Model | None) -> dict[str, Match]:
    """Tensor name -> match, for every weight that the plan slices.

    Without a model names alone decide. Raises PlanError for a weight that is not found, that two
    tensors could be, or whose contents are not the module's.
    """
    tensors = named_tensors(module)
    stored = None if model is None else _stored(model, plan)
    out: dict[str, Match] = {}
    unnamed = []
    for weight, slices in plan.weights.items():
        if weight not in tensors:
            unnamed.append(weight)
            continue
        array = None if stored is None else stored.get(weight)
        if array is not None and not _equal(tensors[weight], array):
            raise PlanError(
                f"weight {weight!r} differs between the module and the model of the plan: a "
                f"layer was folded into it, or it was trained since; {REMEDY}"
            )
        out[weight] = Match(weight, False, slices)
    for weight in unnamed:
        name, turned = _by_contents(weight, stored, tensors, out)
        slices = plan.weights[weight]
        own = {1 - axis: kept for axis, kept in slices.items()} if turned else slices
        out[name] = Match(weight, turned, own)
    for name, match in out.items():
        _check_fit(name, tensors[name], match)
    return out


def _stored(model: ir.Model, plan: Plan) -> dict[str, NDArray[np.generic]]:
    wanted = [value for value in values(model.graph) if value.name in plan.weights]
    found = {value.name or "": ir.convenience.get_const_tensor(value) for value in wanted}
    return {name: tensor.numpy() for name, tensor in found.items() if tensor is not None}


def _by_contents(
    weight: str,
    stored: Mapping[str, NDArray[np.generic]] | None,
    tensors: Mapping[str, Tensor],
    taken: Mapping[str, Match],
) -> tuple[str, bool]:
    if stored is None:
        raise PlanError(
            f"the plan slices {weight!r}, which the module does not have; give the dense model as "
            f"`model`, and weights are found by their contents, or {REMEDY}"
        )
    array = stored.get(weight)
    if array is None:
        raise PlanError(f"the plan slices {weight!r}, which the model does not hold")
    found = list(_candidates(array, tensors, taken))
    if not found:
        raise PlanError(
            f"no tensor of the module has the contents of weight {weight!r}: the exporter folded "
            f"a layer into it, or it was trained since; {REMEDY}"
        )
    # Shared tensors are one tensor under several names.
    if len({id(tensors[name]) for name, _ in found}) > 1:
        names = " and ".join(repr(name) for name, _ in found[:2])
        raise PlanError(f"{names} both have the contents of weight {weight!r}; {REMEDY}")
    return found[0]


def _candidates(
    array: NDArray[np.generic], tensors: Mapping[str, Tensor], taken: Mapping[str, Match]
) -> Iterator[tuple[str, bool]]:
    for name, tensor in tensors.items():
        if name in taken:
            continue
        if _equal(tensor, array):
            yield name, False
        elif array.ndim == 2 and _equal(tensor, array.T):
            yield name, True


def _equal(tensor: Tensor, array: NDArray[np.generic]) -> bool:
    return tuple(tensor.shape) == array.shape and bool(np.array_equal(to_array(tensor), array))


def _check_fit(name: str, tensor: Tensor, match: Match) -> None:
    for axis, kept in match.slices.items():
        if axis >= tensor.ndim or max(kept, default=-1) >= tensor.shape[axis]:
            raise PlanError(
                f"tensor {name!r} is {tuple(tensor.shape)}, the plan keeps index "
                f"{max(kept, default=0)} of its axis {axis}; the plan was made for another module"
            )

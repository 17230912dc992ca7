"""Give a sliced module the weights of a pruned model."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
import torch
from torch import nn

from prunec.compiler.errors import PlanError
from prunec.compiler.walk import values
from prunec.runtime.torch_modules.arrays import to_tensor
from prunec.runtime.torch_modules.match import Match, named_tensors


def take_weights(module: nn.Module, found: Mapping[str, Match], model: ir.Model) -> None:
    """Copy what the model stores under the names of the module's tensors, in place.

    Raises PlanError where a sliced tensor has no counterpart of its shape.
    """
    stored = {value.name: value for value in values(model.graph)}
    for name, tensor in named_tensors(module).items():
        match = found.get(name)
        value = stored.get(name if match is None else match.weight)
        constant = None if value is None else ir.convenience.get_const_tensor(value)
        if constant is None:
            if match is not None:
                raise PlanError(f"`weights` holds no {match.weight!r}")
            continue
        array = constant.numpy()
        if match is not None and match.turned:
            array = array.T
        if array.shape != tuple(tensor.shape):
            raise PlanError(
                f"`weights` holds {name!r} as {array.shape}, the sliced module as "
                f"{tuple(tensor.shape)}; it was not pruned by this plan"
            )
        with torch.no_grad():
            tensor.copy_(to_tensor(array, tensor))

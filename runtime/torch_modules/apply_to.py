"""A torch module made as narrow as a plan says, and proven against the pruned model."""

from __future__ import annotations

import copy
from typing import Any

import onnx_ir as ir
from torch import nn

from prunec.compiler.errors import UsageError
from prunec.compiler.plan import Plan
from prunec.frontends.torch import from_torch
from prunec.runtime.torch_modules.attributes import fit_attributes
from prunec.runtime.torch_modules.cut import Cut, cut_tensors
from prunec.runtime.torch_modules.groups import group_convolutions, reordered
from prunec.runtime.torch_modules.match import matched
from prunec.runtime.torch_modules.proof import prove
from prunec.runtime.torch_modules.weights import take_weights


def apply_to(
    plan: Plan,
    module: nn.Module,
    example_inputs: Any = None,
    *,
    model: ir.Model | None = None,
    weights: ir.Model | None = None,
    in_place: bool = False,
) -> nn.Module:
    """The module without the channels that the plan removes: a copy unless `in_place`.

    Sliced are parameters and buffers, found by the plan's weight names, and attributes that tell
    sizes: channels, groups, heads. Convolutions that the plan groups get their groups, and all
    channels the order that this needs. model: the dense model that the plan was made for, where its
    weights have other names than the module's: they are then found by their contents.
    example_inputs, a tensor or a tuple: the sliced module runs on them, and must give what the
    pruned model gives in onnxruntime. weights: a pruned model, recovered or fine-tuned, whose
    weights the module gets. Hooks and optimizers stay what they are.
    Raises PlanError for what cannot be matched or has no place in the module, VerificationError
    where the outputs differ; the module is then as it was.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"apply_to needs a torch.nn.Module, not {type(module).__name__}")
    inputs = example_inputs
    if inputs is not None and not isinstance(inputs, tuple):
        inputs = (inputs,)
    if model is None and inputs is not None:
        model = from_torch(module, inputs)
    sorted_plan = reordered(plan, model) if plan.groups else plan
    found = matched(sorted_plan, module, model)
    sliced = copy.deepcopy(module)
    cut: Cut = cut_tensors(sliced, found)
    sliced = fit_attributes(sliced, cut)
    group_convolutions(sliced, found, plan)
    if inputs is not None:
        assert model is not None
        prove(plan, model, sliced, inputs)
    if weights is not None:
        take_weights(sliced, found, weights)
    if not in_place:
        return sliced
    if type(sliced) is not type(module):
        raise UsageError(f"a {type(module).__name__} alone cannot be sliced in place")
    # All of it at once, and last: what failed before has changed nothing.
    module.__dict__.update(sliced.__dict__)
    return module

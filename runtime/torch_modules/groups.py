"""Grouped convolutions in a torch module: channels in the plan's order, weights in blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.conv import _ConvNd

from prunec.compiler.errors import PlanError, UsageError
from prunec.compiler.plan import Plan
from prunec.passes.regroup.permute import Order, sources
from prunec.passes.regroup.rewrite import regroup
from prunec.passes.regroup.sites import stored_values
from prunec.runtime.compile import apply_plan
from prunec.runtime.grouped import PERMUTING, blocks_of
from prunec.runtime.subject import Subject, open_model, reopened
from prunec.runtime.torch_modules.match import Match


def reordered(plan: Plan, model: ir.Model | None) -> Plan:
    """The plan with the indices of its weights in the order of the grouped model; all that move.

    model: the dense one. Raises UsageError without it; PlanError where Gathers are left, for which
    a module has no place.
    """
    if model is None:
        raise UsageError(
            "a plan with grouped convolutions needs example inputs, or the dense model as `model`"
        )
    subject = open_model(model, freedom=plan.freedom, rules=plan.rules)
    slim = reopened(apply_plan(subject, plan), subject, PERMUTING)
    blocks = blocks_of(plan)
    found = regroup(slim.model, slim.facts, slim.graph, blocks)
    if found.gathers:
        raise PlanError(
            f"{len(found.gathers)} Gathers reorder channels between the plan's grouped "
            "convolutions, and a module has no place for them; plan with --group-fold joint"
        )
    weights = {name: dict(axes) for name, axes in plan.weights.items()}
    stored = stored_values(slim.model)
    for (name, axis), groups in slim.graph.axes.items():
        if name in stored:
            take = sources(groups, found.order)
            if name in blocks or (take != np.arange(len(take))).any():
                kept = _kept(subject, plan, name, axis)
                weights.setdefault(name, {})[axis] = tuple(kept[take].tolist())
    for name, own in blocks.items():
        ids = (own.outputs, own.inputs)
        _require_side_by_side(name, own.groups, slim, found.order, ids)
        weights.setdefault(name, {}).setdefault(0, tuple(_kept(subject, plan, name, 0).tolist()))
    return replace(plan, weights=weights)


def _kept(subject: Subject, plan: Plan, name: str, axis: int) -> NDArray[np.int64]:
    kept = plan.weights.get(name, {}).get(axis)
    return np.arange(subject.facts.shapes[name][axis]) if kept is None else np.array(kept)


def _require_side_by_side(
    name: str, groups: int, slim: Subject, order: Order, ids: tuple[tuple[int, ...], ...]
) -> None:
    """Without Gathers blocks lie side by side, unless two orders cancel between convolutions."""
    sides = []
    for axis, own in enumerate(ids):
        found = slim.graph.axes.get((name, axis))
        take = np.arange(len(own)) if found is None else sources(found, order)
        sides.append(np.array(own)[take])
    plain = [np.arange(len(own)) * groups // len(own) for own in ids]
    mask, wanted = (rows[:, None] == columns[None, :] for rows, columns in (sides, plain))
    if not np.array_equal(mask, wanted):
        raise PlanError(f"{name}: its blocks do not lie side by side in the module's order")


def group_convolutions(module: nn.Module, found: Mapping[str, Match], plan: Plan) -> None:
    """Give the sliced convolutions of a plan their groups, in place. Raises PlanError."""
    made: dict[int, nn.Parameter] = {}
    for name, match in found.items():
        partition = plan.groups.get(match.weight)
        if partition is None:
            continue
        owner, _, last = name.rpartition(".")
        part = module.get_submodule(owner)
        transposed = isinstance(part, nn.modules.conv._ConvTransposeNd)
        if not isinstance(part, _ConvNd) or transposed or part.groups != 1 or last != "weight":
            raise PlanError(f"{name!r}: its module is no convolution that can get groups")
        old = part.weight
        assert isinstance(old, nn.Parameter), name
        if id(old) not in made:
            made[id(old)] = _diagonal(old, partition.groups)
        part.weight, part.groups = made[id(old)], partition.groups


def _diagonal(weight: nn.Parameter, groups: int) -> nn.Parameter:
    """(F, C / G, *K) the blocks on the diagonal of a weight (F, C, *K)."""
    outputs, inputs, *kernel = weight.shape
    split = weight.detach().reshape(groups, outputs // groups, groups, inputs // groups, *kernel)
    own = torch.arange(groups, device=weight.device)
    blocks = split[own, :, own].reshape(outputs, inputs // groups, *kernel)
    return nn.Parameter(blocks.clone(), weight.requires_grad)

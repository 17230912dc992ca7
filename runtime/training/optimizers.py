"""Parameters and what moves them: decay for weights only, one row per optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from prunec.runtime.training.settings import AdamW, Sgd, TrainSettings


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Parameters that are trained besides the model's.

    rate: their highest learning rate, under the run's schedule unless `scheduled` is False.
    name: how a callback finds the group again (`StepInfo.optimizer.param_groups`).
    """

    parameters: tuple[nn.Parameter, ...]
    rate: float
    weight_decay: float = 0.0
    scheduled: bool = True
    name: str = "extra"


def _adamw(how: AdamW, groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=rate, betas=(how.beta1, how.beta2))


def _sgd(how: Sgd, groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    nesterov = how.nesterov and how.momentum > 0
    return torch.optim.SGD(groups, lr=rate, momentum=how.momentum, nesterov=nesterov)


MAKERS: Mapping[str, Callable[[Any, list[dict[str, Any]], float], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
}


def decays(parameter: nn.Parameter) -> bool:
    """Whether weight decay is for it: not for norms and biases, which have one axis at most."""
    return sum(size > 1 for size in parameter.shape) > 1


def make_optimizer(
    model: Iterable[nn.Parameter], settings: TrainSettings, extra: Iterable[Group] = ()
) -> torch.optim.Optimizer:
    """The optimizer over the model's parameters and the extra groups.

    Every group has, besides torch's keys, `name`, `peak` (its highest rate) and `scheduled`.
    """
    how, rate = settings.optimizer, settings.rate
    trained = [p for p in model if p.requires_grad]
    groups: list[dict[str, Any]] = [
        _row([p for p in trained if decays(p)], "weights", rate, how.weight_decay, True),
        _row([p for p in trained if not decays(p)], "norms and biases", rate, 0.0, True),
    ]
    groups += [_row(list(g.parameters), g.name, g.rate, g.weight_decay, g.scheduled) for g in extra]
    return MAKERS[how.name](how, [g for g in groups if g["params"]], rate)


def _row(
    parameters: list[nn.Parameter], name: str, rate: float, decay: float, scheduled: bool
) -> dict[str, Any]:
    return {
        "params": parameters,
        "name": name,
        "lr": rate,
        "peak": rate,
        "scheduled": scheduled,
        "weight_decay": decay,
    }

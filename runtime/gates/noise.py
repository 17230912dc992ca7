"""One draw of all gates: the logistic noise, once per channel group and sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TINY = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Gates of a batch. value: (rows, groups), 0 and 1, or what lies between if they are soft.
    soft: sigmoid((theta + noise) / temperature); open: where that exceeds one half.
    """

    value: Tensor
    soft: Tensor
    open: Tensor


def draw(theta: Tensor, rows: int, temperature: float = 1.0, *, hard: bool = True) -> Draw:
    """Draw gates that are open with probability sigmoid(theta) (Gator, section 3.1).

    theta: (groups,). The noise comes from torch's generator of the CPU, whatever the device. With
    theta that asks for gradients, hard gates hand on those of the soft ones (straight-through).
    """
    uniform = torch.rand(rows, len(theta)).clamp_(TINY, 1 - TINY)
    noise = (uniform.log() - (-uniform).log1p()).to(theta.device)
    soft = torch.sigmoid((theta + noise) / temperature)
    opened = soft.detach() > 0.5
    if not hard:
        return Draw(soft, soft, opened)
    return Draw((opened.to(soft.dtype) - soft).detach() + soft, soft, opened)


def gain(gradient: Tensor, drawn: Draw, kind: str, together: int = 1) -> Tensor:
    """(groups,) what the loss gains by each group's being open, mean over the samples.

    gradient: (rows, groups), at its gates, of the mean loss of the `together` samples of a row.
    kind: "straight-through": minus the gradient, weighed with the slope of the soft gate; "fisher":
    half of its square where the gate is open, the estimate of what the second order adds on the way
    to 0 (the first is 0 on average where weights are trained, and mostly noise); "second-order":
    both orders. The mean square over samples is that of their mean times their number, for samples
    whose gradients are independent.
    """
    if kind == "straight-through":
        slope = drawn.soft.detach() * (1 - drawn.soft.detach())
        return -(gradient * slope).sum(0) / slope.sum(0).clamp_min(TINY)
    squares = drawn.open * gradient.square() * (together / 2)
    if kind == "fisher":
        return squares.sum(0) / drawn.open.sum(0).clamp_min(1)
    return (squares - gradient).mean(0)

"""Fake quantisation: values of a grid forwards, gradients straight through backwards."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Zero = Tensor | int


def fake_quantised(
    x: Tensor, scale: Tensor, zero: Zero, low: int, high: int, gain: float = 1.0
) -> Tensor:
    """``(clamp(round(x / scale) + zero, low, high) - zero) * scale``, in the type of x.

    scale: float32, (1,) or broadcasting with x, and zero likewise, of integers, or one number.
    Computed in float32, half to even and clamped after rounding, as QuantizeLinear and
    DequantizeLinear do. Backwards: x gets the gradient where the integer was not clamped and 0
    where it saturated. A scale that asks for a gradient gets ``gain`` times the sum of ``integer -
    x / scale`` there (``integer`` where it saturated), counted from zero. Source: Esser et al.,
    Learned Step Size Quantization, ICLR 2020, equations 2 and 3; they take x as saturated from the
    last integer on, not from half a step above it.
    """
    apply: Any = _Straight.apply
    made: Tensor = apply(x, scale, zero, low, high, gain)
    return made


class _Straight(torch.autograd.Function):
    """Passes over memory are what it costs: results go into what is there wherever they can."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, zero: Zero, low: int, high: int, gain: float
    ) -> Tensor:
        steps = torch.div(x, scale)  # float32 also for narrower x
        rounded = torch.round(steps)
        # Clamped as floats: what lies beyond an integer type would wrap.
        first: Any = low - zero
        last: Any = high - zero
        kept = torch.clamp(rounded, first, last)
        inside = torch.eq(kept, rounded)
        slope = None
        if scale.requires_grad:
            slope = torch.where(inside, torch.sub(kept, steps, out=rounded), kept)
        ctx.save_for_backward(inside, slope)
        ctx.scale, ctx.gain = scale.shape, gain
        return torch.mul(kept, scale, out=torch.empty_like(x))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        inside, slope = ctx.saved_tensors
        of_scale = None
        if slope is not None and ctx.needs_input_grad[1]:
            of_scale = slope.mul_(grad).sum_to_size(ctx.scale) * ctx.gain
        return grad * inside, of_scale, None, None, None, None

"""The exponential average of a model's weights and running statistics."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Average:
    """``a <- d a + (1 - d) w`` after every step, with ``d = min(decay, (1 + t) / (10 + t))``.

    The start of a run would otherwise weigh as much as its last 1 / (1 - decay) steps. Integer
    tensors are copied.
    """

    def __init__(self, state: Mapping[str, Tensor], decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.state = {name: tensor.detach().clone() for name, tensor in state.items()}

    def update(self, state: Mapping[str, Tensor]) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        floats = [n for n, tensor in self.state.items() if tensor.is_floating_point()]
        old = [self.state[n] for n in floats]
        torch._foreach_lerp_(old, [state[n].detach() for n in floats], share)
        for name in self.state.keys() - set(floats):
            self.state[name].copy_(state[name])

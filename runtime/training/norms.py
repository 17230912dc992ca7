"""Norms that are folded into weights when training is over, and what that does to grids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from prunec.compiler.quantisation import SMALLEST, Grid


@dataclass(frozen=True, slots=True)
class Norm:
    """A BatchNormalization behind a weight: the names of its stored tensors.

    axis: of the weight, along which the channels of the norm lie. groups: of a ConvTranspose; with
    more than one an index of that axis serves a channel of each.
    """

    scale: str
    variance: str
    epsilon: float
    axis: int
    groups: int = 1


class Norms:
    """Factors of norms, ``k = scale / sqrt(variance + epsilon)``, as they are now.

    A scale per channel passes through a norm: the weight w is quantised as it is, with the scale s,
    and the folded weight k w has the same integers at the scale ``|k| s``. Where k is negative the
    integers turn around, so w does before it is rounded: the ends of a signed grid differ. A grid
    with one scale for all channels is one of the folded weight.
    """

    def __init__(self, stored: Callable[[str], Tensor]) -> None:
        """stored: the tensor of a norm by its name, as it is now: training changes it, and a move
        to another device replaces it.
        """
        self._stored = stored

    def factor(
        self, norm: Norm | None, axis: int | None, block: int, shape: Sequence[int]
    ) -> Tensor | None:
        """What a weight of this shape is multiplied by before, and divided by after quantisation.

        axis, block: of its grid. It broadcasts with the weight; None for 1.
        """
        if norm is None:
            return None
        k = self._of(norm)
        signs = _passes(norm, axis, block)
        k = torch.where(k < 0, -1.0, 1.0) if signs else torch.where(k == 0, 1.0, k)
        if norm.groups > 1:
            rows = k.reshape(norm.groups, -1).repeat_interleave(shape[0] // norm.groups, 0)
            return rows.reshape(*rows.shape, *[1] * (len(shape) - 2))
        lengths = [1] * len(shape)
        lengths[norm.axis] = -1
        return k.reshape(lengths)

    def folded(self, grid: Grid, norm: Norm | None) -> Grid:
        """The grid of the folded weight, for that in training."""
        if norm is None or not _passes(norm, grid.axis, grid.block):
            return grid
        k = self._of(norm).abs().cpu().numpy()
        return replace(grid, scale=np.maximum(grid.scale * k, np.float32(SMALLEST)))

    def _of(self, norm: Norm) -> Tensor:
        scale, variance = (self._stored(n).detach().float() for n in (norm.scale, norm.variance))
        return scale / torch.sqrt(variance + norm.epsilon)


def _passes(norm: Norm, axis: int | None, block: int) -> bool:
    """Whether each channel of the norm has a scale of its own."""
    return axis == norm.axis and not block and norm.groups == 1

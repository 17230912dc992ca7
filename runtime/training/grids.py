"""The grid of one tensor while it is trained: its scale is learned, or follows running ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from prunec.compiler.quantisation import SMALLEST, FloatArray, Grid, Quantiser
from prunec.runtime.training.scales import Running, Scales
from prunec.runtime.training.straight import fake_quantised

LEAST = 1 / 8  # of the calibrated scale: where a learned one stops


class LearnedGrid(nn.Module):
    """A scale that is a parameter, and the zero point that calibration found."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self._first = grid
        self.scale = nn.Parameter(torch.tensor(grid.scale))
        self.least: Tensor
        self.register_buffer("least", torch.tensor(grid.scale * LEAST), persistent=False)
        self.zero: Tensor
        self.register_buffer("zero", torch.tensor(grid.zero))

    def see(self, x: Tensor) -> None:
        """Gradients are all that it learns by."""

    def forward(self, x: Tensor) -> Tensor:
        """Straight through; the gradient of the scale is that of learned step sizes."""
        scale = self._positive()
        gain = (x.numel() / scale.numel() * max(self._first.high, 1)) ** -0.5
        return _applied(x, scale, self.zero, self._first, gain)

    def grid(self) -> Grid:
        """As it is now."""
        return replace(self._first, scale=self._positive().detach().cpu().numpy())

    def _positive(self) -> Tensor:
        """Steps that turn a scale around or shrink it to nothing would saturate all of a tensor."""
        return torch.maximum(self.scale, self.least).clamp_min(SMALLEST)


class RunningGrid(nn.Module):
    """Means of the smallest and largest values seen, and the grid that a quantiser makes of them.

    They are floating buffers, so that processes share them and averages of weights hold them too.
    """

    def __init__(self, grid: Grid, quantiser: Quantiser, weight: int) -> None:
        super().__init__()
        self._first, self._quantiser = grid, quantiser
        self.low: Tensor
        self.high: Tensor
        self.seen: Tensor
        low, high = _range_of(grid, quantiser)
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32))
        self.register_buffer("high", torch.tensor(high, dtype=torch.float32))
        self.register_buffer("seen", torch.tensor(weight))

    @torch.no_grad()
    def see(self, x: Tensor) -> None:
        """Move the means."""
        rows = x.detach().float()
        axis = self._first.axis
        rows = rows.reshape(1, -1) if axis is None else rows.movedim(axis, 0).flatten(1)
        low, high = torch.aminmax(rows, dim=1)
        self.low += (low - self.low) / (self.seen + 1)
        self.high += (high - self.high) / (self.seen + 1)
        self.seen += 1

    def forward(self, x: Tensor) -> Tensor:
        """Straight through; the scale has no gradient."""
        grid = self.grid()
        scale, zero = (torch.tensor(a, device=x.device) for a in (grid.scale, grid.zero))
        return _applied(x, scale, zero, grid, 1.0)

    def grid(self) -> Grid:
        """As it is now."""
        low, high = (b.double().cpu().numpy() for b in (self.low, self.high))
        return self._quantiser(low, high, self._first.bits, self._first.axis)


def _range_of(grid: Grid, quantiser: Quantiser) -> tuple[FloatArray, FloatArray]:
    """The range that a quantiser makes this grid of, as nearly as it can.

    A symmetric grid has one integer more below 0 than above: its quantiser counts steps to one of
    the ends, which of them differs.
    """
    low, high = grid.covers()

    def missed(ends: tuple[FloatArray, FloatArray]) -> float:
        made = quantiser(*ends, grid.bits, grid.axis).scale
        return float(np.abs(np.log(made / grid.scale)).max())

    return min(((low, high), (np.maximum(low, -high), high)), key=missed)


TrainedGrid = LearnedGrid | RunningGrid


def trained_grid(grid: Grid, quantiser: Quantiser, scales: Scales) -> TrainedGrid:
    """The module for a calibrated grid. quantiser: what makes grids of ranges, for running ones."""
    if isinstance(scales, Running):
        return RunningGrid(grid, quantiser, scales.weight)
    return LearnedGrid(grid)


def _applied(x: Tensor, scale: Tensor, zero: Tensor, grid: Grid, gain: float) -> Tensor:
    if grid.axis is None:
        return fake_quantised(x, scale, int(grid.zero[0]), grid.low, grid.high, gain)
    scale, zero = (_spread(t, grid, x.shape) for t in (scale, zero))
    return fake_quantised(x, scale, zero, grid.low, grid.high, gain)


def _spread(amounts: Tensor, grid: Grid, shape: Sequence[int]) -> Tensor:
    """Like `Grid.spread`, with gradients."""
    assert grid.axis is not None
    axis = grid.axis % len(shape)
    if grid.block:
        index = torch.arange(shape[axis], device=amounts.device) // grid.block
        return amounts.index_select(axis, index)
    lengths = np.ones(len(shape), int)
    lengths[axis] = -1
    return amounts.reshape(lengths.tolist())

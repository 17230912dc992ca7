"""Convolutions as products of windows with a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute
from prunec.compiler.recovery import Array
from prunec.passes.recovery.moments import FloatArray

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Convolution:
    """``x (N, C, *S), w (M, C/g, *K) -> y (N, M, *S')``; a transposed one has w (C, M/g, *K).

    The output at position o sums the input at ``(o * strides - before + k * dilations)``; of a
    transposed one at ``(o + before - k * dilations) / strides``, where that is a whole number.
    pads: (before, after) per axis, None where auto_pad makes them.
    """

    groups: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...] | None
    auto_pad: str
    transposed: bool = False
    output_padding: tuple[int, ...] = ()

    data = 0
    weight = 1
    bias = 2
    bias_scale = 1.0
    source_axis = 1
    target_axis = 1

    def places(self, y: tuple[int, ...]) -> tuple[int, int]:
        """A place is a position, the same of every sample."""
        return prod(y[2:]), y[0]

    def agrees(self, x: tuple[int, ...], y: tuple[int, ...]) -> bool:
        """Whether inputs of shape x make outputs of shape y, as far as their sizes say."""
        rank = len(self.kernel)
        if x[0] != y[0] or self.pads is None or self.transposed:
            return x[0] == y[0]
        reach = [(self.kernel[k] - 1) * self.dilations[k] + 1 for k in range(rank)]
        padded = [x[2 + k] + self.pads[k] + self.pads[rank + k] for k in range(rank)]
        made = [(padded[k] - reach[k]) // self.strides[k] + 1 for k in range(rank)]
        return tuple(made) == tuple(y[2:])

    def rows(self, x: Array, y: tuple[int, ...], places: Places) -> FloatArray:
        """(G, R, D), columns by channel, then by position in the kernel."""
        at = np.unravel_index(places, y[2:])
        before = self._before(x.shape[2:], y[2:])
        taken: list[Any] = [slice(None), slice(None)]
        valid: NDArray[np.bool_] | None = None
        rank = len(self.kernel)
        for axis in range(rank):
            index, inside = self._index(axis, at[axis], before[axis], x.shape[2 + axis])
            spread = (len(places), *[-1 if k == axis else 1 for k in range(rank)])
            taken.append(index.reshape(spread))
            own = inside.reshape(spread)
            valid = own if valid is None else valid & own
        assert valid is not None
        windows = x[tuple(taken)].astype(np.float64)  # (N, C, P, *K)
        windows *= valid
        n, c, p = windows.shape[:3]
        split = windows.reshape(n, self.groups, c // self.groups, p, prod(self.kernel))
        out = split.transpose(1, 0, 3, 2, 4)
        return np.ascontiguousarray(out).reshape(self.groups, n * p, -1)

    def _index(self, axis: int, at: Places, before: int, size: int) -> tuple[Places, Any]:
        """(P, K) index into the input, and whether there is one."""
        steps = np.arange(self.kernel[axis]) * self.dilations[axis]
        stride = self.strides[axis]
        if self.transposed:
            whole = at[:, None] + before - steps
            index, rest = np.divmod(whole, stride)
            inside = (rest == 0) & (index >= 0) & (index < size)
        else:
            index = at[:, None] * stride - before + steps
            inside = (index >= 0) & (index < size)
        return np.clip(index, 0, size - 1), inside

    def _before(self, x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...]:
        """Padding before each axis."""
        rank = len(self.kernel)
        if self.pads is not None:
            return self.pads[:rank]
        out = []
        for k in range(rank):
            reach = (self.kernel[k] - 1) * self.dilations[k] + 1
            if self.transposed:
                extra = (self.output_padding or (0,) * rank)[k]
                total = self.strides[k] * (x[k] - 1) + extra + reach - y[k]
            else:
                total = max((y[k] - 1) * self.strides[k] + reach - x[k], 0)
            # SAME_UPPER gives what is odd to the end, of a transposed one to the beginning.
            upper = self.auto_pad != "SAME_LOWER"
            if self.transposed:
                upper = self.auto_pad == "SAME_UPPER"
            out.append(total // 2 if upper else total - total // 2)
        return tuple(out)

    def outputs(self, y: Array, places: Places) -> FloatArray:
        """(G, R, M)."""
        n, m = y.shape[:2]
        flat = y.reshape(n, self.groups, m // self.groups, -1)[..., places]
        out = flat.transpose(1, 0, 3, 2).astype(np.float64)
        return np.ascontiguousarray(out).reshape(self.groups, -1, m // self.groups)

    def matrix(self, weight: Array) -> FloatArray:
        """(G, D, M)."""
        first, second = weight.shape[:2]
        wide = weight.astype(np.float64)
        if self.transposed:
            split = wide.reshape(self.groups, first // self.groups, second, -1)
            own = split.transpose(0, 1, 3, 2)
        else:
            split = wide.reshape(self.groups, first // self.groups, second, -1)
            own = split.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(own).reshape(self.groups, -1, own.shape[-1])

    def stored(self, matrix: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """A weight of that shape."""
        taps, outputs = prod(self.kernel), matrix.shape[2]
        split = matrix.reshape(self.groups, -1, taps, outputs)
        own = split.transpose(0, 1, 3, 2) if self.transposed else split.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(own).reshape(shape)

    def sources(self, channels: int, columns: int) -> Places:
        """(G, D)."""
        own = np.arange(channels, dtype=np.int64).reshape(self.groups, -1)
        return np.repeat(own, prod(self.kernel), axis=1)


def conv(node: ir.Node, position: int, shape: tuple[int, ...]) -> Convolution | None:
    """ONNX Conv."""
    return _convolution(node, shape) if position == 1 and len(shape) > 2 else None


def conv_transpose(node: ir.Node, position: int, shape: tuple[int, ...]) -> Convolution | None:
    """ONNX ConvTranspose."""
    made = _convolution(node, shape, True) if position == 1 and len(shape) > 2 else None
    return made


def _convolution(node: ir.Node, shape: tuple[int, ...], transposed: bool = False) -> Convolution:
    rank = len(shape) - 2
    auto = str(attribute(node, "auto_pad", "NOTSET") or "NOTSET")
    pads = tuple(attribute(node, "pads", (0,) * (2 * rank)))
    if auto == "VALID":
        pads = (0,) * (2 * rank)
    made = auto.startswith("SAME") or (transposed and attribute(node, "output_shape") is not None)
    return Convolution(
        groups=int(attribute(node, "group", 1)),
        kernel=tuple(int(n) for n in shape[2:]),
        strides=tuple(attribute(node, "strides", (1,) * rank)),
        dilations=tuple(attribute(node, "dilations", (1,) * rank)),
        pads=None if made else pads,
        auto_pad=auto,
        transposed=transposed,
        output_padding=tuple(attribute(node, "output_padding", ())),
    )

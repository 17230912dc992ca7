"""What a rule sees of one node: attributes, shapes, constant inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute, axes_of
from prunec.compiler.labels import AxisLabels, Coupler, Unsupported

__all__ = ["Rule", "Site", "Unsupported", "is_frozen", "product", "stay"]


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One node with what is known about its inputs and outputs.

    in_shapes, out_shapes: () for an absent optional input. constants: contents or None.
    weights: True where an input depends on initializers alone. floats: False where it holds
    integers or booleans, in which a gated channel is not zero.
    """

    node: ir.Node
    opset: int
    in_shapes: tuple[tuple[int, ...], ...]
    out_shapes: tuple[tuple[int, ...], ...]
    constants: tuple[NDArray[Any] | None, ...]
    weights: tuple[bool, ...]
    floats: tuple[bool, ...] = ()

    def attr(self, name: str, default: Any = None) -> Any:
        """Value of an attribute as a plain Python value."""
        return attribute(self.node, name, default)

    def gated(self, position: int) -> bool:
        """Whether a removed channel of this input is zero: it is made by float activations."""
        is_float = self.floats[position] if position < len(self.floats) else True
        return is_float and not self.weights[position]

    def has(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(self.node.inputs) and self.node.inputs[position] is not None

    def constant(self, position: int, what: str) -> NDArray[Any]:
        """Contents of an input that must be known for the rule to apply."""
        array = self.constants[position] if self.has(position) else None
        if array is None:
            raise Unsupported(f"{what} depends on the data")
        return array

    def axes(self, position: int = 1, default: Sequence[int] = ()) -> tuple[int, ...]:
        """The `axes` attribute or input, made non-negative for the first input's rank."""
        if self.has(position):
            self.constant(position, "axes")
        axes = axes_of(self.node, self.constants, position) or tuple(default)
        return tuple(a % max(self.rank, 1) for a in axes)

    def axis(self, default: int) -> int:
        """The `axis` attribute, made non-negative for the first input's rank."""
        return int(self.attr("axis", default)) % max(self.rank, 1)

    @property
    def rank(self) -> int:
        """Number of axes of the first input."""
        return len(self.in_shapes[0])

    @property
    def batch(self) -> int:
        """Size of the first output's first axis."""
        return self.out_shapes[0][0]

    @property
    def out_space(self) -> tuple[int, ...]:
        """Sizes of the first output's axes after batch and channels."""
        return self.out_shapes[0][2:]

    @property
    def kernel(self) -> tuple[int, ...]:
        """Spatial sizes of a convolution weight."""
        return self.in_shapes[1][2:]


Rule = Callable[[Site, Sequence[AxisLabels], Coupler], Sequence[AxisLabels]]


def product(sizes: Sequence[int]) -> int:
    """Product as an exact Python integer."""
    total = 1
    for size in sizes:
        total *= int(size)
    return total


def stay(shape: Sequence[int], c: Coupler) -> AxisLabels:
    """Labels of a value none of whose axes can shrink."""
    return tuple(c.frozen(n) for n in shape)


def is_frozen(labels: NDArray[np.int64]) -> bool:
    """Whether an axis is known to be frozen when the rule runs (it may become so later)."""
    return not labels.any()

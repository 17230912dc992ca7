"""What a rule sees of one node: attributes, shapes, constant inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute, axes_of
from prunec.compiler.encoding import Zero
from prunec.compiler.labels import AxisLabels, Coupler, Unsupported
from prunec.compiler.reasons import Reason

__all__ = ["Rule", "Site", "Unsupported", "is_frozen", "product", "stay"]


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """The interpretation that a rule of control flow is part of; names are unique over bodies.

    labels: of all values so far; what enters a body is added. constants: contents that hold
    whatever the data is. run: interpret a body, whose inputs have labels, with its costs taken
    so many times; 0 times where it is known never to run.
    """

    labels: dict[str, AxisLabels]
    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, NDArray[Any]]
    run: Callable[[ir.Graph, int], None]

    def of(self, value: ir.Value) -> AxisLabels | None:
        """Labels of a value, None where its shape is not known."""
        return self.labels.get(str(value.name))


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One node with what is known about its inputs and outputs.

    in_shapes, out_shapes: () for an absent optional input. constants: contents or None.
    weights: True where an input depends on initializers alone. floats: False where it holds
    integers or booleans, in which a gated channel is not zero unless `zeros` knows which integer
    stands for zero. assumed: True where contents come
    from a size that depends on the data. scope: for the rules of control flow. fixed: whether no
    size in the model is a symbol.
    """

    node: ir.Node
    opset: int
    in_shapes: tuple[tuple[int, ...], ...]
    out_shapes: tuple[tuple[int, ...], ...]
    constants: tuple[NDArray[Any] | None, ...]
    weights: tuple[bool, ...]
    floats: tuple[bool, ...] = ()
    assumed: tuple[bool, ...] = ()
    zeros: tuple[Zero | None, ...] = ()
    scope: Scope | None = None
    fixed: bool = False

    def attr(self, name: str, default: Any = None) -> Any:
        """Value of an attribute as a plain Python value."""
        return attribute(self.node, name, default)

    def gated(self, position: int) -> bool:
        """Whether a removed channel of this input is zero: it is made by float activations.

        So are the channels of a constant that is all zeros, the first state of an unrolled cell.
        """
        is_float = self.floats[position] if position < len(self.floats) else True
        if not is_float:
            zero = self.zeros[position] if position < len(self.zeros) else None
            return zero is not None and zero.is_literal() and not self.weights[position]
        return not self.weights[position] or self._is_zero(position)

    def gated_at(self, position: int, zero_point: int) -> bool:
        """Whether a removed channel of an integer input is the zero point that another input holds.

        An absent zero point is 0.
        """
        zero = self.zeros[position] if position < len(self.zeros) else None
        if zero is None or self.weights[position]:
            return False
        if not self.has(zero_point):
            return zero.is_literal()
        return zero.agrees(Zero(self.name(zero_point), self.constants[zero_point]))

    def name(self, position: int) -> str:
        """Name of the value at an input, "" where there is none."""
        value = self.node.inputs[position] if self.has(position) else None
        return "" if value is None else value.name or ""

    def _is_zero(self, position: int) -> bool:
        constant = self.constants[position]
        return constant is not None and not constant.any()

    def has(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(self.node.inputs) and self.node.inputs[position] is not None

    def constant(self, position: int, what: str) -> NDArray[Any]:
        """Contents of an input that must be known for the rule to apply."""
        array = self.constants[position] if self.has(position) else None
        if array is None:
            raise Unsupported(f"{what} depends on the data")
        return array

    def positions(self, position: int) -> NDArray[Any] | None:
        """Contents of an input that hold whatever the data is; None where there are none such.

        Contents that come from a count of something in the data are right as a size, not as a
        position on an axis that may shrink.
        """
        if position < len(self.assumed) and self.assumed[position]:
            return None
        return self.constants[position] if position < len(self.constants) else None

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


def stay(shape: Sequence[int], c: Coupler, reason: Reason | None = None) -> AxisLabels:
    """Labels of a value none of whose axes can shrink; what meets them has this reason."""
    return tuple(c.frozen(n, reason) for n in shape)


def is_frozen(labels: NDArray[np.int64]) -> bool:
    """Whether an axis is known to be frozen when the rule runs (it may become so later)."""
    return not labels.any()

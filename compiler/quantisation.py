"""The integers that a tensor takes, and the contracts of what chooses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BITS = range(2, 17)
STORED = (4, 8, 16)  # bits of the ONNX types; fewer bits are kept in the next larger one
SMALLEST = float(np.finfo(np.float32).tiny)  # of a scale: a smaller one is not a normal float


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """``x = (q - zero) * scale`` with integers q of so many bits: what a tensor is stored as.

    bits: 2 to 16. signed: q in -2^(b-1) ... 2^(b-1)-1, else 0 ... 2^b-1. scale: float32, > 0, and
    zero: int64 among the q, of one shape: (1,) for the whole tensor where axis is None; (n,) along
    an axis of n indices; where block > 0 the shape of the tensor with ``ceil(n / block)`` on the
    axis, each for so many indices in a row. Source: ONNX, QuantizeLinear and DequantizeLinear 21.
    """

    bits: int
    signed: bool
    scale: NDArray[np.float32]
    zero: IntArray
    axis: int | None = None
    block: int = 0

    def __post_init__(self) -> None:
        """Assert what is said above, and lock the arrays."""
        scale, zero = np.array(self.scale, np.float32), np.array(self.zero, np.int64)
        assert self.bits in BITS, self.bits
        assert scale.shape == zero.shape, (scale.shape, zero.shape)
        assert (self.axis is not None) or (scale.shape == (1,) and not self.block), scale.shape
        assert self.axis is None or self.block or scale.ndim == 1, scale.shape
        assert np.isfinite(scale).all() and (scale > 0).all(), scale
        assert ((zero >= self.low) & (zero <= self.high)).all(), zero
        scale.flags.writeable = zero.flags.writeable = False
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero", zero)

    @property
    def low(self) -> int:
        """The smallest integer."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest integer."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def stored(self) -> int:
        """Bits of the ONNX type that holds the integers: 4, 8 or 16."""
        return next(size for size in STORED if self.bits <= size)

    def spread(self, shape: Sequence[int]) -> tuple[NDArray[np.float32], IntArray]:
        """Scale and zero of a tensor of this shape, so that they broadcast with it."""
        if self.axis is None:
            return self.scale, self.zero
        axis = self.axis % len(shape)
        if self.block:
            index = np.arange(shape[axis]) // self.block
            return np.take(self.scale, index, axis), np.take(self.zero, index, axis)
        lengths = [1] * len(shape)
        lengths[axis] = -1
        assert self.scale.size in (1, shape[axis]), (self.scale.size, tuple(shape), axis)
        return self.scale.reshape(lengths), self.zero.reshape(lengths)

    def codes(self, array: NDArray[Any]) -> NDArray[np.int32]:
        """The integers of an array, as QuantizeLinear gives them: half to even, saturated."""
        scale, zero = self.spread(array.shape)
        rounded = np.rint(np.asarray(array, np.float32) / scale)
        # Clamped as floats first: what lies beyond int32 wraps when cast.
        inside = np.clip(rounded, self.low - zero, self.high - zero)
        return np.asarray(inside.astype(np.int32) + zero, np.int32)

    def values(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """What integers stand for, as DequantizeLinear gives it."""
        scale, zero = self.spread(codes.shape)
        return (codes - zero).astype(np.float32) * scale

    def fake(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """The nearest representable value of each element."""
        return self.values(self.codes(array))

    def covers(self) -> tuple[FloatArray, FloatArray]:
        """The smallest and the largest representable value per scale, shape as scale."""
        scale = self.scale.astype(np.float64)
        return (self.low - self.zero) * scale, (self.high - self.zero) * scale


Fit = Callable[[FloatArray, FloatArray], Grid]  # low (n,), high (n,) -> the grid for this range


class Quantiser(Protocol):
    """A row of `QUANTISERS`: a frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def __call__(
        self, low: FloatArray, high: FloatArray, bits: int, axis: int | None = None
    ) -> Grid:
        """The grid for values between low and high, (1,), or (n,) along an axis."""
        ...

    def alone(self) -> Quantiser:
        """What one channel by itself would get: with it a range is searched per channel."""
        ...


class Reducer(Protocol):
    """What a `Range` has seen so far; memory does not grow with what it is shown."""

    def add(self, batch: NDArray[Any]) -> None:
        """Take in one batch: (n, values), finite floats; n = 1 for a whole tensor."""
        ...

    def ranges(self, fit: Fit) -> tuple[FloatArray, FloatArray]:
        """Low and high, (n,) each, for the grids that `fit` makes of them."""
        ...


class Range(Protocol):
    """A row of `RANGES`: a frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def start(self, channels: int) -> Reducer:
        """A reducer that has seen nothing, of so many channels (1 for a whole tensor)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """A weight that is to be rounded, as matrices per group: ``y = x W``.

    matrix: (G, D, M), D inputs and M outputs per group. scale, zero: (G, D, M) of each element;
    low, high: the integers at hand. moments: (G, D, D) mean of ``q^T q`` over rows, q the inputs as
    the quantised model has them (about their mean where a bias takes up the shift); None without
    data. cross: (G, D, D) mean of ``q^T x``, x the inputs of the float model; None where q = x.
    """

    matrix: FloatArray
    scale: FloatArray
    zero: IntArray
    low: int
    high: int
    moments: FloatArray | None = None
    cross: FloatArray | None = None


class Rounding(Protocol):
    """A row of `ROUNDINGS`: a frozen dataclass whose fields are its options.

    needs_data: whether it reads `Products.moments`.
    """

    name: ClassVar[str]
    needs_data: ClassVar[bool]

    def __call__(self, products: Products) -> IntArray:
        """(G, D, M) integers between low and high."""
        ...

"""Stored weights as the numbers that they stand for: integers times scales, packed bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.encoding import Encoding
from prunec.compiler.literals import constant
from prunec.compiler.walk import initializers, nodes

Array = NDArray[Any]
Look = Callable[[str], Array | None]


def contents_of(model: ir.Model) -> Look:
    """A function from the name of a stored tensor (Constant nodes too) to its contents, or None."""
    tensors = initializers(model.graph)
    constants = {n.outputs[0].name: n for n in nodes(model.graph) if n.op_type == "Constant"}

    def look(name: str) -> Array | None:
        stored = tensors.get(name)
        if stored is not None and stored.const_value is not None:
            return stored.const_value.numpy()
        node = constants.get(name)
        return None if node is None else constant(node)

    return look


def decoded(array: Array, encoding: Encoding, look: Look, rows: slice = slice(None)) -> Array:
    """``array[rows]`` as float32; packed numbers are a new last axis.

    Scales that are not stored (they are computed from data) count as one step of the type each.
    """
    zero = levels(array.shape, encoding, look, rows)
    scale = _scale(array, encoding, look)
    values = array[rows]
    if encoding.bits:
        values = unpacked(values, encoding.bits)
    return (values.astype(np.float32) - zero) * _spread(scale, array.shape, encoding, rows)


def levels(
    shape: Sequence[int], encoding: Encoding, look: Look, rows: slice = slice(None)
) -> Array:
    """The integer that stands for zero, float32, broadcastable to what `decoded` returns."""
    zero = look(encoding.zero) if encoding.zero else None
    if zero is None:
        return np.full((1,) * (len(shape) + bool(encoding.bits)), encoding.middle, np.float32)
    if encoding.bits and zero.dtype == np.uint8:
        zero = unpacked(zero, encoding.bits).reshape(*zero.shape[:-1], -1)
        scale = look(encoding.scales[0])
        if scale is not None and scale.ndim == zero.ndim:
            zero = zero[..., : scale.shape[-1]]
    return _spread(zero.astype(np.float32), shape, encoding, rows)


def unpacked(array: Array, bits: int) -> Array:
    """(*S,) bytes -> (*S, 8 / bits) numbers, lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return (array.view(np.uint8)[..., None] >> shifts) & np.uint8((1 << bits) - 1)


def integer_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Least and largest number of an integer type, 4-bit ones included."""
    kind = ir.DataType.from_numpy(dtype)
    bits = kind.bitwidth
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind.is_signed() else (0, (1 << bits) - 1)


def _scale(array: Array, encoding: Encoding, look: Look) -> Array:
    known = [look(name) for name in encoding.scales]
    present = [scale.astype(np.float32) for scale in known if scale is not None]
    if present and len(present) == len(known):
        product = present[0]
        for scale in present[1:]:
            product = product * scale
        return product
    bits = encoding.bits or 8 * ir.DataType.from_numpy(array.dtype).itemsize
    return np.array(0.5 ** (bits - 1), np.float32)


def _spread(values: Array, shape: Sequence[int], encoding: Encoding, rows: slice) -> Array:
    """Scales or zero points, broadcastable to ``(*shape,)``, cut to `rows`."""
    rank = len(shape) + bool(encoding.bits)
    if values.size == 1:
        return values.reshape((1,) * rank)
    if values.ndim == 1:
        axis = 0 if encoding.bits else encoding.axis
        count = [1] * rank
        count[axis] = -1
        if encoding.bits and values.size > shape[0]:  # a flat table of rows and blocks
            count[:2] = shape[0], -1
        values = values.reshape(count)
    elif values.ndim < rank:
        values = values.reshape((*values.shape, *[1] * (rank - values.ndim)))
    if encoding.block and values.shape[encoding.axis] != shape[encoding.axis]:
        which = np.arange(shape[encoding.axis]) // encoding.block
        values = np.take(values, np.minimum(which, values.shape[encoding.axis] - 1), encoding.axis)
    return values if len(values) == 1 else values[rows]

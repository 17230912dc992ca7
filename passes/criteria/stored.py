"""Sums over the stored parameters that hold a channel group."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.encoding import Encoding
from prunec.compiler.errors import ModelError
from prunec.compiler.hypergraph import Axis, Groups, Hypergraph, WeightInfo
from prunec.compiler.problem import FloatArray
from prunec.passes.decode import Look, contents_of, decoded

BLOCK_ELEMENTS = 1 << 20  # 8 MB in float64


def axis_sums(
    model: ir.Model, graph: Hypergraph, p: int, only: Collection[str | None] | None = None
) -> Iterator[tuple[Axis, Groups, FloatArray]]:
    """For every axis of every parameter: its groups and ``sum |w|^p`` per index, float64.

    Each tensor is read once; `only` restricts to these tensors. Raises ModelError for NaN or
    infinite weights.
    """
    look = contents_of(model)
    for weight in graph.weights:
        axes = [k for k in range(len(weight.shape)) if (weight.value, k) in graph.axes]
        if not axes or not weight.counted or (only is not None and weight.value not in only):
            continue
        if 0 in weight.shape:
            continue  # the start of what a loop collects: no numbers to sum
        array = look(weight.value)
        assert array is not None, weight.value
        rows = partial(_numbers, array, weight.encoding, look)
        for k, sums in zip(axes, _sums(rows, weight.shape, p, axes), strict=True):
            if not np.isfinite(sums).all():
                raise ModelError(f"weight {weight.value} holds NaN or infinite numbers; repair it")
            yield (weight.value, k), graph.axes[weight.value, k], sums


def joint_sums(
    array: NDArray[Any], weight: WeightInfo, look: Look, axes: Sequence[int]
) -> FloatArray:
    """``sum |w|`` of one stored tensor over all axes but these (one or two), float64.

    Works on a block of rows at a time, so that memory holds little more than the result.
    """
    rows = max(1, BLOCK_ELEMENTS // max(1, prod(weight.shape[1:])))
    parts = [
        _block(_numbers(array, weight.encoding, look, slice(first, first + rows)), 1, list(axes))
        for first in range(0, weight.shape[0], rows)
    ]
    return np.concatenate(parts) if axes[0] == 0 else np.asarray(np.sum(parts, axis=0))


def _numbers(
    array: NDArray[Any], encoding: Encoding | None, look: Look, rows: slice
) -> NDArray[Any]:
    return array[rows] if encoding is None else decoded(array, encoding, look, rows)


def _sums(
    numbers: Callable[[slice], NDArray[Any]], shape: Sequence[int], p: int, axes: list[int]
) -> list[FloatArray]:
    """Per entry of `axes`: sum |w|^p over all the other axes, float64.

    Works on a block of rows at a time, so that memory holds little more than the tensor.
    """
    rows = max(1, BLOCK_ELEMENTS // max(1, prod(shape[1:])))
    parts: list[list[FloatArray]] = [[] for _ in axes]
    for first in range(0, shape[0], rows):
        joint = _block(numbers(slice(first, first + rows)), p, axes)
        for position in range(len(axes)):
            others = tuple(j for j in range(len(axes)) if j != position)
            parts[position].append(joint.sum(axis=others))
    return [
        np.concatenate(own) if k == 0 else np.sum(own, axis=0)
        for k, own in zip(axes, parts, strict=True)
    ]


def _block(array: NDArray[Any], p: int, axes: list[int]) -> FloatArray:
    """sum |w|^p over the axes that are not in `axes`."""
    powers = array.astype(np.float64)
    powers = np.square(powers, out=powers) if p == 2 else np.abs(powers, out=powers)
    others = [k for k in range(array.ndim) if k not in axes]
    if others and others == list(range(len(axes), array.ndim)):
        # The usual layout: a product with ones sums short kernels many times faster than sum().
        shape = [array.shape[k] for k in axes]
        flat = powers.reshape(int(np.prod(shape)), -1)
        return np.asarray((flat @ np.ones(flat.shape[1])).reshape(shape))
    return np.asarray(powers.sum(axis=tuple(others))) if others else powers


def require_finite(model: ir.Model, graph: Hypergraph) -> None:
    """Raise ModelError if a parameter of a removable channel is NaN or infinite."""
    for _ in axis_sums(model, graph, 1):
        pass

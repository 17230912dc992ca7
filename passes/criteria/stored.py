"""Sums over the stored parameters that hold a channel group."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute
from prunec.compiler.errors import ModelError
from prunec.compiler.hypergraph import Axis, Groups, Hypergraph
from prunec.compiler.problem import FloatArray


def axis_sums(
    model: ir.Model, graph: Hypergraph, p: int, only: Collection[str | None] | None = None
) -> Iterator[tuple[Axis, Groups, FloatArray]]:
    """For every axis of every parameter: its groups and ``sum |w|^p`` per index, float64.

    Each tensor is read once; `only` restricts to these tensors. Raises ModelError for NaN or
    infinite weights.
    """
    constants = {node.outputs[0].name: node for node in model.graph if node.op_type == "Constant"}
    for weight in graph.weights:
        axes = [k for k in range(len(weight.shape)) if (weight.value, k) in graph.axes]
        if not axes or not weight.counted or (only is not None and weight.value not in only):
            continue
        array = _read(model, constants, weight.value)
        sums = _sums(array, p, axes)
        if not np.isfinite(sums).all():
            raise ModelError(f"weight {weight.value} holds NaN or infinite numbers; repair it")
        for position, k in enumerate(axes):
            others = tuple(j for j in range(len(axes)) if j != position)
            yield (weight.value, k), graph.axes[weight.value, k], sums.sum(axis=others)


def _read(model: ir.Model, constants: dict[str | None, ir.Node], name: str) -> NDArray[Any]:
    stored = model.graph.initializers.get(name)
    if stored is not None and stored.const_value is not None:
        array = stored.const_value.numpy()
    else:
        node = constants[name]
        array = np.asarray(attribute(node, next(iter(node.attributes))))
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _sums(array: NDArray[Any], p: int, axes: list[int]) -> FloatArray:
    """sum |w|^p over all axes but `axes`; float64, one axis per entry of `axes`."""
    powers = np.square(array) if p == 2 else np.abs(array)
    others = [k for k in range(array.ndim) if k not in axes]
    shape = [array.shape[k] for k in axes]
    if others == list(range(len(axes), array.ndim)):
        # The usual layout: a product with ones sums short kernels many times faster than sum().
        flat = powers.reshape(int(np.prod(shape)), -1)
        summed = flat[:, 0] if flat.shape[1] == 1 else flat @ np.ones(flat.shape[1], flat.dtype)
        return np.asarray(summed.reshape(shape), np.float64)
    return np.asarray(powers.sum(axis=tuple(others), dtype=np.float64))


def require_finite(model: ir.Model, graph: Hypergraph) -> None:
    """Raise ModelError if a parameter of a removable channel is NaN or infinite."""
    for _ in axis_sums(model, graph, 1):
        pass

"""Weights under which every contraction is exact: one power of two per output, zeros elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.walk import initializers
from prunec.passes.apply import Mask, sliced
from prunec.passes.decode import contents_of, integer_range, levels

# Mostly plus one: behind a Relu a negative signal ends.
SIGNS = np.array([1.0, 1.0, 1.0, 1.0, -1.0])


def selectors(
    model: ir.Model, graph: Hypergraph, mask: Mask, seed: int
) -> dict[str, ir.TensorProtocol]:
    """Contents for every contraction weight: each output channel is plus or minus one input.

    A sum with one non-zero term has no rounding and no order, so two graphs that route channels
    alike agree in every bit. Inputs that are kept are chosen nine times out of ten, so that
    signals survive the pruning. The tensors are filled whenever they are read, never kept.
    """
    rng = np.random.default_rng(seed)
    outputs: dict[str, list[int]] = defaultdict(list)
    for value, axis in graph.made:
        outputs[value].append(axis)
    contents: dict[str, ir.TensorProtocol] = {}
    encodings, look = {w.value: w.encoding for w in graph.weights}, contents_of(model)
    tensors = initializers(model.graph)
    for value, axes in outputs.items():
        stored = tensors.get(value)
        if stored is None or stored.const_value is None:
            continue
        shape = stored.const_value.shape.numpy()
        rest = [k for k in range(len(shape)) if k not in axes]
        if not rest or not all(shape):
            continue
        dtype, encoding = stored.const_value.dtype.numpy(), encodings.get(value)
        if encoding is not None and encoding.bits:
            continue  # several numbers in a byte
        chosen = _choice(shape, axes, rest, _weights(graph, mask, value, shape), rng)
        signs = rng.choice(SIGNS, len(chosen[0]))
        zero = None if encoding is None else levels(shape, encoding, look)
        contents[value] = ir.LazyTensor(
            partial(_filled, shape, chosen, signs, zero, dtype),
            dtype=stored.const_value.dtype,
            shape=ir.Shape(shape),
            name=value,
        )
    return contents


def _filled(
    shape: Sequence[int],
    chosen: tuple[NDArray[np.int64], ...],
    signs: NDArray[np.float64],
    zero: NDArray[Any] | None,
    dtype: np.dtype[Any],
) -> ir.Tensor[Any]:
    """The weight with its signs at the chosen places. zero: what stands for zero in integers."""
    array: NDArray[Any] = np.zeros(shape, np.float64 if zero is not None else dtype)
    array[chosen] = signs
    if zero is not None:
        array = _as_integers(array, zero, dtype)
    return ir.Tensor(array.astype(dtype, copy=False), dtype=ir.DataType.from_numpy(dtype))


def _as_integers(
    selector: NDArray[np.float64], zero: NDArray[Any], dtype: np.dtype[Any]
) -> NDArray[np.float64]:
    """The zero point, or as many steps above or below it as the type has.

    Fewer steps would be a number so small that the next quantisation rounds it away.
    """
    if ir.DataType.from_numpy(dtype).is_floating_point():  # float8
        return selector
    low, high = integer_range(dtype)
    return np.asarray(zero + selector * np.where(selector > 0, high - zero, zero - low))


def _weights(
    graph: Hypergraph, mask: Mask, value: str, shape: Sequence[int]
) -> list[NDArray[np.float64]]:
    """Per axis, the odds of each index: 9 : 1 for kept against removed."""
    odds = []
    for axis, size in enumerate(shape):
        groups = graph.axes.get((value, axis))
        kept = np.ones(size, bool) if groups is None else mask[groups]
        odds.append(np.where(kept, 0.9 / max(kept.sum(), 1), 0.1 / max((~kept).sum(), 1)))
    return odds


def _choice(
    shape: Sequence[int],
    axes: Sequence[int],
    rest: Sequence[int],
    odds: Sequence[NDArray[np.float64]],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], ...]:
    """One place per output: its index on every axis."""
    outputs = [shape[k] for k in axes]
    count = int(np.prod(outputs))
    index: list[NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(shape)
    for k, grid in zip(axes, np.indices(outputs).reshape(len(axes), -1), strict=True):
        index[k] = grid
    for k in rest:
        p = odds[k] / odds[k].sum()
        index[k] = rng.choice(shape[k], count, p=p)
    return tuple(index)


def with_contents(
    model: ir.Model,
    contents: Mapping[str, ir.TensorProtocol],
    slices: Mapping[str, Mapping[int, tuple[int, ...]]],
) -> ir.Model:
    """A clone whose named initializers hold `contents`, cut by `slices`."""
    clone = model.clone()
    tensors = initializers(clone.graph)
    for name, tensor in contents.items():
        value = tensors.get(name)
        if value is not None and value.const_value is not None:
            value.const_value = sliced(tensor, slices[name]) if name in slices else tensor
    return clone

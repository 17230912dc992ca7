"""Weights under which every contraction is exact: one power of two per output, zeros elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.hypergraph import Hypergraph
from prunec.passes.apply import Mask, sliced

# Mostly plus one: behind a Relu a negative signal ends.
SIGNS = np.array([1.0, 1.0, 1.0, 1.0, -1.0])


def selectors(model: ir.Model, graph: Hypergraph, mask: Mask, seed: int) -> dict[str, NDArray[Any]]:
    """Contents for every contraction weight: each output channel is plus or minus one input.

    A sum with one non-zero term has no rounding and no order, so two graphs that route channels
    alike agree in every bit. Inputs that are kept are chosen nine times out of ten, so that
    signals survive the pruning.
    """
    rng = np.random.default_rng(seed)
    outputs: dict[str, list[int]] = defaultdict(list)
    for value, axis in graph.made:
        outputs[value].append(axis)
    contents = {}
    for value, axes in outputs.items():
        stored = model.graph.initializers.get(value)
        if stored is None or stored.const_value is None:
            continue
        shape = stored.const_value.shape.numpy()
        rest = [k for k in range(len(shape)) if k not in axes]
        if not rest or not all(shape):
            continue
        contents[value] = _selector(shape, axes, rest, _weights(graph, mask, value, shape), rng)
        contents[value] = contents[value].astype(stored.const_value.dtype.numpy())
    return contents


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


def _selector(
    shape: Sequence[int],
    axes: Sequence[int],
    rest: Sequence[int],
    odds: Sequence[NDArray[np.float64]],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    outputs = [shape[k] for k in axes]
    count = int(np.prod(outputs))
    index: list[NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(shape)
    for k, grid in zip(axes, np.indices(outputs).reshape(len(axes), -1), strict=True):
        index[k] = grid
    for k in rest:
        p = odds[k] / odds[k].sum()
        index[k] = rng.choice(shape[k], count, p=p)
    array = np.zeros(shape)
    array[tuple(index)] = rng.choice(SIGNS, count)
    return array


def with_contents(
    model: ir.Model,
    contents: Mapping[str, NDArray[Any]],
    slices: Mapping[str, Mapping[int, tuple[int, ...]]],
) -> ir.Model:
    """A clone whose named initializers hold `contents`, cut by `slices`."""
    clone = model.clone()
    for name, array in contents.items():
        value = clone.graph.initializers.get(name)
        if value is not None and value.const_value is not None:
            tensor = ir.Tensor(array, dtype=value.const_value.dtype, name=name)
            value.const_value = sliced(tensor, slices[name]) if name in slices else tensor
    return clone

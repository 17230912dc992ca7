"""Biases as 32-bit integers: the steps of weights must be large enough for them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from prunec.compiler.quantisation import Grid
from prunec.passes.quantize.places import NodePlace, Places

LARGEST = 2**30  # of a bias in steps; sums of products need the rest of 32 bits


def fitting(
    model: ir.Model, places: Places, weight: str, grid: Grid, activations: Mapping[str, Grid]
) -> Grid:
    """`grid` with steps that are no smaller than what the biases of its layers need.

    A bias is counted in steps of input times weight: channels whose weights are nearly 0 would
    have one that no 32-bit integer holds. Their steps grow, which costs nothing that is not noise
    beside the bias.
    """
    if grid.block:
        return grid
    least = np.zeros(grid.scale.shape)
    nodes = {str(node.name): node for node in model.graph}
    for place in places.nodes:
        if place.weight != weight or not place.bias:
            continue
        read = nodes[place.node].inputs[0]
        found = activations.get("" if read is None else _root(str(read.name), places))
        bias = _contents(model, place)
        if found is not None and bias.size:
            need = np.abs(bias) / (LARGEST * float(found.scale[0]))
            fits = need.size == least.size
            least = np.maximum(least, need if fits else np.full(least.shape, need.max()))
    if (grid.scale >= least).all():
        return grid
    scale = np.maximum(grid.scale, least).astype(np.float32)
    return Grid(grid.bits, grid.signed, scale, grid.zero, grid.axis, grid.block)


def _root(name: str, places: Places) -> str:
    return places.same.get(name, name)


def _contents(
    model: ir.Model, place: NodePlace
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The bias of a layer, flat."""
    tensor = model.graph.initializers[place.bias].const_value
    return np.zeros(0) if tensor is None else tensor.numpy().astype(np.float64).reshape(-1)

"""Which tensors of a training graph are on grids, for the places of its folded form."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

import onnx_ir as ir
import torch
from torch import Tensor

from prunec.compiler.constants import attribute
from prunec.compiler.literals import literal, origin
from prunec.compiler.ops import op_key
from prunec.compiler.quantisation import Quantiser
from prunec.passes.quantize.norms import EPSILON
from prunec.passes.quantize.ops import ROWS
from prunec.passes.quantize.places import Places, WeightPlace
from prunec.passes.quantize.weights import weight_grid
from prunec.runtime.torch_view import TorchView
from prunec.runtime.training.norms import Norm, Norms
from prunec.runtime.training.quantised import Site


def with_sums(model: ir.Model, places: Places, bits: int) -> Places:
    """The places with at least so many bits for values that no layer with a weight reads.

    Those are the terms of additions and what pools read: the errors of narrow ones would add up
    along a residual stream, and no product becomes cheaper by them.
    """
    named = {str(node.name): node for node in model.graph}
    read: set[str] = set()
    for place in places.nodes:
        if place.weight:
            names = [str(v.name) for k in place.inputs if (v := named[place.node].inputs[k])]
            read.update(places.same.get(name, name) for name in names)
    widened = {
        name: own if name in read else max(own, bits) for name, own in places.activations.items()
    }
    return replace(places, activations=MappingProxyType(widened))


def norms_of(
    model: ir.Model, folded: Collection[str], places: Places, view: TorchView
) -> tuple[dict[str, Norm], Norms]:
    """Weight -> the norm behind it, and the factors of all.

    model: with its norms; folded: names of those that are gone where `places` were found.
    """
    named = {str(node.name): node for node in model.graph}
    found = {name: _norm(named, place, folded) for name, place in places.weights.items()}
    norms = {name: norm for name, norm in found.items() if norm is not None}
    states = {name: state for state, name in view.names.items()}
    values = {str(v.name): v for node in model.graph for v in node.inputs if v is not None}
    fixed = {
        name: torch.tensor(literal(values[name]))
        for norm in norms.values()
        for name in (norm.scale, norm.variance)
        if name not in states
    }

    def stored(name: str) -> Tensor:
        if name in fixed:
            return fixed[name].to(next(view.parameters()).device)
        path, _, last = states[name].rpartition(".")
        tensor: Tensor = getattr(view.get_submodule(path), last)
        return tensor

    return norms, Norms(stored)


def weight_sites(
    model: ir.Model, places: Places, norms: Mapping[str, Norm], factors: Norms, by: Quantiser
) -> list[Site]:
    """The weights, each with the grid of the least squared error. by: what makes it."""
    named = {str(node.name): node for node in model.graph}
    found = []
    for name, place in places.weights.items():
        readers = tuple((node, _weight_of(named[node])) for node in place.nodes)
        array = literal(named[place.nodes[0]].inputs[readers[0][1]])
        assert array is not None, name
        axis = place.input if place.block else place.axis
        norm = norms.get(name)
        factor = factors.factor(norm, axis, place.block, array.shape)
        whole = array if factor is None else array * factor.cpu().numpy()
        grid = weight_grid(whole, by, place.bits, axis, block=place.block)
        found.append(Site(name, readers, grid, by, is_weight=True, norm=norm))
    return found


def _weight_of(node: ir.Node) -> int:
    position = ROWS[op_key(node)].weight
    assert position is not None, node.name
    return position


def _norm(named: Mapping[str, ir.Node], place: WeightPlace, folded: Collection[str]) -> Norm | None:
    """The norm that is folded into a weight. One weight of several nodes has none: it is copied."""
    layer = named[place.nodes[0]]
    readers = [node for node, _ in layer.outputs[0].uses()]
    if len(readers) != 1 or str(readers[0].name) not in folded:
        return None
    (node,) = readers
    names = [origin(node.inputs[k]) for k in (1, 4)]
    assert all(value is not None for value in names), node.name
    scale, variance = (str(value.name) for value in names if value is not None)
    groups = int(attribute(layer, "group", 1)) if op_key(layer) == "ConvTranspose" else 1
    axis = ROWS[op_key(layer)].axis(layer, 2)
    assert axis is not None, layer.name
    epsilon = float(attribute(node, "epsilon", EPSILON))
    return Norm(scale, variance, epsilon, axis, groups)

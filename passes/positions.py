"""Kernel positions per filter: which to zero, and the weights with these zeros.

The published 4D mode of the discrete QCQP (AISTATS 2022): channels first, under a budget that is
looser by 1 / gamma, then a knapsack over the kernel positions of the filters that stay, until the
multiply-accumulates without zeroed positions meet the budget. No operator skips single zeros, so
this saves neither time nor space; what is written is the pattern.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.errors import PlanError, UsageError
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray, Limit
from prunec.compiler.ranges import positions, ranges
from prunec.compiler.walk import initializers
from prunec.passes.vanish import vanishing

RESOURCES = ("flops", "params")  # what zeroed positions are counted out of
Mask = NDArray[np.bool_]
Zeroed = Mapping[str, Mapping[str, str]]  # weight -> positions -> filters, both as `ranges`


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A stored convolution weight (M, C / group, *K). filters, inputs: what stays of its axes.

    outputs: elements of a channel of all that it makes: MACs of one position of one kept pair.
    """

    weight: str
    kernel: tuple[int, ...]
    filters: Mask
    inputs: Mask
    outputs: int

    @property
    def saves(self) -> dict[str, int]:
        """What zeroing one position of one filter saves."""
        kept = int(self.inputs.sum())
        return {"flops": kept * self.outputs, "params": kept}


def layers(model: ir.Model, facts: Facts, graph: Hypergraph, mask: Mask) -> Iterator[Layer]:
    """Convolutions that read a stored float weight of more than one position, and no one else.

    Those of branches that vanish are none.
    """
    found = vanishing(model.graph, graph, mask)
    gone = frozenset() if found is None else found[1].values
    for name, value in initializers(model.graph).items():
        tensor = value.const_value
        uses = list(value.uses())
        if tensor is None or not uses or len(tensor.shape) < 3 or name in gone:
            continue
        shape = tuple(int(n) for n in tensor.shape.numpy())
        convolutions = all(
            node.op_type == "Conv" and node.domain in ("", "ai.onnx") and position == 1
            for node, position in uses
        )
        if not convolutions or not tensor.dtype.is_floating_point() or prod(shape[2:]) < 2:
            continue
        made = [facts.shapes[node.outputs[0].name or ""] for node, _ in uses]
        filters, inputs = (
            mask[graph.axes[name, k]] if (name, k) in graph.axes else np.ones(shape[k], bool)
            for k in range(2)
        )
        outputs = sum(s[0] * prod(s[2:]) for s in made)
        yield Layer(name, shape[2:], filters, inputs, outputs)


def thin(
    model: ir.Model, facts: Facts, graph: Hypergraph, mask: Mask, limits: tuple[Limit, ...]
) -> dict[str, dict[str, str]]:
    """The least important positions to zero, per importance and cost, so that the limits hold.

    Importance of a position of a filter: sum of |W| over the kept inputs, each weight divided by
    its Frobenius norm. Every filter keeps its best position. Raises UsageError where all others
    are not enough.
    """
    counts = [int(mask[e.first : e.first + e.size].sum()) for e in graph.edges]
    need = {
        x.resource: graph.costs[x.resource](counts) - x.at_most
        for x in limits
        if x.resource in RESOURCES
    }
    need = {resource: missing for resource, missing in need.items() if missing > 0}
    if not need:
        return {}
    found = list(layers(model, facts, graph, mask))
    worths = [_worths(model, layer) for layer in found]
    place = np.concatenate([np.full(w.size, k) for k, w in enumerate(worths)] or [np.zeros(0)])
    saved = {
        r: np.concatenate([np.full(w.size, x.saves[r]) for x, w in zip(found, worths, strict=True)])
        for r in need
        if found
    }
    worth = np.concatenate([w.reshape(-1) for w in worths] or [np.zeros(0)])
    best = np.concatenate([_bests(w).reshape(-1) for w in worths] or [np.zeros(0, bool)])
    gone = _knapsack(worth, best, saved, need)
    out: dict[str, dict[str, str]] = {}
    for k, (layer, own) in enumerate(zip(found, worths, strict=True)):
        pattern = gone[place == k].reshape(own.shape)
        if pattern.any():
            out[layer.weight] = _texts(pattern, np.flatnonzero(layer.filters))
    return out


def _worths(model: ir.Model, layer: Layer) -> FloatArray:
    """(kept filters, positions) importance."""
    tensor = initializers(model.graph)[layer.weight].const_value
    assert tensor is not None
    array = np.abs(tensor.numpy().astype(np.float64))
    norm = float(np.sqrt(np.square(array).sum())) or 1.0
    kept = array[layer.filters][:, layer.inputs].sum(axis=1) / norm
    return np.asarray(kept.reshape(len(kept), -1))


def _bests(worths: FloatArray) -> Mask:
    out = np.zeros(worths.shape, bool)
    if worths.size:
        out[np.arange(len(worths)), worths.argmax(axis=1)] = True
    return out


def _knapsack(
    worth: FloatArray, best: Mask, saved: Mapping[str, FloatArray], need: Mapping[str, int]
) -> Mask:
    """Items to give up: lowest worth per saving first, then back with what was not needed."""
    gone = np.zeros(len(worth), bool)
    free = np.flatnonzero(~best)
    if not saved or any(saved[r][free].sum() < missing for r, missing in need.items()):
        raise UsageError(
            "--kernel-positions per-filter: one position per filter is still too much for the "
            "budget; use a larger --gamma or a larger budget"
        )
    relative = np.sum([saved[r] / missing for r, missing in need.items()], axis=0)
    order = free[np.argsort(worth[free] / relative[free], kind="stable")]
    enough = max(
        int(np.searchsorted(np.cumsum(saved[r][order]), missing)) + 1 for r, missing in need.items()
    )
    gone[order[:enough]] = True
    spare = {r: float(saved[r][gone].sum()) - missing for r, missing in need.items()}
    for item in order[:enough][np.argsort(-worth[order[:enough]], kind="stable")].tolist():
        if all(saved[r][item] <= left for r, left in spare.items()):
            gone[item] = False
            spare = {r: left - float(saved[r][item]) for r, left in spare.items()}
    return gone


def _texts(pattern: Mask, filters: NDArray[np.int64]) -> dict[str, str]:
    """Filters by their zeroed positions."""
    found: dict[str, list[int]] = {}
    for own, number in zip(pattern, filters.tolist(), strict=True):
        if own.any():
            found.setdefault(ranges(np.flatnonzero(own).tolist()), []).append(number)
    return {text: ranges(numbers) for text, numbers in sorted(found.items())}


def effective(
    model: ir.Model, facts: Facts, graph: Hypergraph, mask: Mask, zeroed: Zeroed
) -> dict[str, int]:
    """Costs without the zeroed positions. Raises PlanError for positions that can't be zeroed."""
    counts = [int(mask[e.first : e.first + e.size].sum()) for e in graph.edges]
    costs = {r: graph.costs[r](counts) for r in RESOURCES}
    known = {layer.weight: layer for layer in layers(model, facts, graph, mask)}
    for weight, patterns in zeroed.items():
        layer = known.get(weight)
        where = f"$.options.kernel_positions.zeroed[{weight!r}]"
        if layer is None:
            raise PlanError(f"{where}: is no stored weight of a convolution")
        zeros = np.zeros((len(layer.filters), prod(layer.kernel)), bool)
        for place, filters in patterns.items():
            try:
                own, rows = positions(place), positions(filters)
            except ValueError as error:
                raise PlanError(f"{where}: {error}") from None
            if (
                not own
                or own[-1] >= prod(layer.kernel)
                or not rows
                or rows[-1] >= len(layer.filters)
            ):
                raise PlanError(f"{where}: {place!r} of {filters!r} lies outside of the weight")
            if not layer.filters[list(rows)].all():
                raise PlanError(f"{where}: {filters!r} names a filter that is removed")
            zeros[np.ix_(rows, own)] = True
        for resource, saving in layer.saves.items():
            costs[resource] -= saving * int(zeros.sum())
    return costs


def with_zeros(model: ir.Model, zeroed: Zeroed) -> ir.Model:
    """The model with zeros at these positions of its weights; itself where there are none."""
    if not zeroed:
        return model
    copy = model.clone()
    for name, value in initializers(copy.graph).items():
        if name in zeroed and value.const_value is not None:
            value.const_value = _zeroing(value.const_value, zeroed[name])
    return copy


def _zeroing(tensor: ir.TensorProtocol, patterns: Mapping[str, str]) -> ir.LazyTensor:
    """A tensor that is zeroed whenever it is read, never kept."""

    def read() -> ir.Tensor[Any]:
        array = tensor.numpy().copy()
        flat = array.reshape(*array.shape[:2], -1)
        for place, filters in patterns.items():
            rows, own = np.array(positions(filters)), np.array(positions(place))
            flat[rows[:, None], :, own] = 0
        return ir.Tensor(array, dtype=tensor.dtype, name=tensor.name)

    shape = ir.Shape(tensor.shape.numpy())
    return ir.LazyTensor(read, dtype=tensor.dtype, shape=shape, name=tensor.name)

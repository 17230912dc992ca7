"""What a quantised model stores, as sizes of axes: exact bytes at any kept counts and bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx_ir as ir

from prunec.compiler.cost import Linear
from prunec.compiler.costs.ledger import StoredTensor
from prunec.compiler.costs.weight_bytes import weight_bytes
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Counted, Hypergraph, linear
from prunec.compiler.quantisation import Grid
from prunec.passes.quantize.emit import emit
from prunec.passes.quantize.errors import FLOAT_BITS
from prunec.passes.quantize.places import Places, WeightPlace

HALF = StoredTensor((Linear(1),), 0.5, 0)  # the rest of a byte behind a last element of 4 bits
CARRIES = frozenset({"Cast", "DequantizeLinear", "QuantizeLinear", "Clip", "Transpose"})


@dataclass(frozen=True, slots=True)
class Item:
    """A stored tensor: its axes, bits of an element, and how many indices of each axis share one.

    blocks: per axis; 1 where every index has its own entry. codes: it is the weight itself.
    """

    axes: tuple[Linear, ...]
    bits: int
    blocks: tuple[int, ...] = ()
    codes: bool = False

    def elements(self, counts: Sequence[int]) -> int:
        """How many there are; a block that is not full counts."""
        blocks = self.blocks or (1,) * len(self.axes)
        return prod(-(-axis(counts) // b) for axis, b in zip(self.axes, blocks, strict=True))

    def nbytes(self, counts: Sequence[int]) -> int:
        """Whole bytes: of two elements of 4 bits in a byte the last may be alone."""
        return -(-self.elements(counts) * self.bits // 8)

    def at_most(self) -> tuple[StoredTensor, ...]:
        """As terms of a cost that are no less: blocks and bytes that are not full count as such."""
        scale, axes = self.bits / 8, list(self.axes)
        for k, block in enumerate(self.blocks):
            if block > 1:
                scale /= block
                axes[k] = Linear(axes[k].constant + block - 1, axes[k].terms)
        last = (HALF,) if self.bits == 4 else ()
        return (StoredTensor(tuple(axes), scale, 0), *last)


@dataclass(frozen=True, slots=True)
class Footprint:
    """fixed: name -> what is stored whatever the bits are. weights: weight -> bits -> its integers
    and what comes with them: scales, zero points, the bias of its layer. gone: stored tensors of
    the float model that the quantised one has not, or has in `weights`.
    """

    fixed: Mapping[str, Item]
    weights: Mapping[str, Mapping[int, tuple[Item, ...]]]
    gone: frozenset[str]

    def nbytes(self, counts: Sequence[int], bits: Mapping[str, int]) -> int:
        """Bytes of weights, scales, zero points and biases; bits: of every weight in `weights`."""
        own = (item for name, by_bits in self.weights.items() for item in by_bits[bits[name]])
        return sum(item.nbytes(counts) for item in (*self.fixed.values(), *own))


def footprint(
    model: ir.Model,
    facts: Facts,
    graph: Hypergraph,
    places: Places,
    choices: Mapping[str, Sequence[int]],
    *,
    kernels: bool = True,
) -> Footprint:
    """What `emit` stores of a model, found by letting it, once per number of bits.

    model, places: with folded norms. graph: of the dense model, whose hyperedges are the axes.
    choices: weight -> numbers of bits it may get, FLOAT_BITS where it may stay float. Source of
    truth is the emission itself, not a second description of it.
    """
    survey = _Survey(model, facts, graph, places)
    by_bits: dict[str, dict[int, tuple[Item, ...]]] = {name: {} for name in choices}
    fixed: dict[str, Item] = {}
    gone: frozenset[str] = frozenset()
    for bits in sorted({b for own in choices.values() for b in own}):
        given = {name: bits for name, own in choices.items() if bits in own}
        rest = {name: own[0] for name, own in choices.items() if bits not in own}
        fixed, weights, gone = survey.of({**given, **rest}, kernels)
        for name in given:
            by_bits[name][bits] = weights.get(name, ())
    return Footprint(fixed, by_bits, gone)


@dataclass(slots=True, eq=False)
class _Survey:
    """Reads emitted models; lives inside `footprint`."""

    model: ir.Model
    facts: Facts
    graph: Hypergraph
    places: Places

    def of(
        self, bits: Mapping[str, int], kernels: bool
    ) -> tuple[dict[str, Item], dict[str, tuple[Item, ...]], frozenset[str]]:
        """Items that belong to no weight, those that do, and what the dense model had besides."""
        emitted = self._emitted(bits, kernels).graph
        owners = {
            node: self.places.weights[name]
            for name in bits
            for node in self.places.weights[name].nodes
        }
        known = {w.value: w.counted for w in self.graph.weights}
        before = set(self.model.graph.initializers)
        fixed: dict[str, Item] = {}
        own: dict[str, list[Item]] = {name: [] for name in bits}
        for name, value in emitted.initializers.items():
            place, read_as = _owner(value, owners)
            if place is not None:
                own[place.name].append(self._item(value, read_as, place))
            elif known.get(name, name not in before):
                fixed[name] = self._item(value, name, None)
        gone = frozenset(name for name, counted in known.items() if counted) - fixed.keys()
        return fixed, {name: tuple(items) for name, items in own.items()}, gone

    def _emitted(self, bits: Mapping[str, int], kernels: bool) -> ir.Model:
        """The dense model with integers everywhere, all of them 0."""
        activations = {
            name: Grid(b, False, np.ones(1, np.float32), np.zeros(1, np.int64))
            for name, b in self.places.activations.items()
        }
        weights = {}
        for name, b in bits.items():
            if b < FLOAT_BITS:
                shape = self._shape(name)
                weights[name] = (_unit_grid(self.places.weights[name], b, shape), np.zeros(shape))
        return emit(
            self.model, self.facts, self.places, activations, weights, kernels=kernels
        ).model

    def _shape(self, name: str) -> tuple[int, ...]:
        value = self.model.graph.initializers[name]
        assert value.shape is not None, name
        return tuple(value.shape.numpy())

    def _item(self, value: ir.Value, read_as: str, place: WeightPlace | None) -> Item:
        """Its axes as sizes. read_as: what nodes see of it, where that is another value."""
        assert value.shape is not None and value.dtype is not None, value.name
        shape, bits = tuple(value.shape.numpy()), round(8 * value.dtype.itemsize)
        name = place.name if place is not None and len(shape) > 1 else read_as
        if place is None or len(shape) > 1 or (read_as, 0) in self.graph.axes:
            whole = self._shape(name) if name in self.model.graph.initializers else shape
        else:
            whole = self._shape(place.name)
        if len(whole) == len(shape):  # it is the tensor itself, or one entry for each block of it
            sizes = tuple(self._size(name, k, n) for k, n in enumerate(whole))
            blocks = tuple(
                1 if n == m else (place.block if place is not None else 1)
                for n, m in zip(whole, shape, strict=True)
            )
            codes = place is not None and len(shape) > 1 and max(blocks) == 1
            return Item(sizes, bits, blocks, codes)
        if place is not None and place.axis is not None and shape == (whole[place.axis],):
            return Item((self._size(place.name, place.axis, shape[0]),), bits)
        return Item(tuple(Linear(n) for n in shape), bits)

    def _size(self, value: str, axis: int, size: int) -> Linear:
        groups = self.graph.axes.get((value, axis))
        if groups is None:
            return Linear(size)
        return linear(groups, self.graph.edge_of_group(), self.graph.dense())


def _owner(value: ir.Value, owners: Mapping[str, WeightPlace]) -> tuple[WeightPlace | None, str]:
    """The weight whose node reads a stored tensor other than as its data, and as which value."""
    pending = [value]
    while pending:
        now = pending.pop()
        for node, position in now.uses():
            if position and str(node.name) in owners:
                return owners[str(node.name)], str(now.name)
            if node.op_type in CARRIES:
                pending += node.outputs
    return None, ""


def _unit_grid(place: WeightPlace, bits: int, shape: Sequence[int]) -> Grid:
    if place.axis is None and not place.block:
        return Grid(bits, True, np.ones(1, np.float32), np.zeros(1, np.int64))
    axis = place.input if place.block else place.axis
    assert axis is not None, place.name
    sizes = list(shape) if place.block else [shape[axis]]
    if place.block:
        sizes[axis] = -(-shape[axis] // place.block)
    return Grid(
        bits, True, np.ones(sizes, np.float32), np.zeros(sizes, np.int64), axis, place.block
    )


def with_footprint(
    graph: Hypergraph, found: Footprint, dialled: Mapping[str, Sequence[int]]
) -> Hypergraph:
    """The graph whose `bytes` are at least those of the quantised model, for a selection problem.

    dialled: weights whose bits are a variable, a dial of FLOAT_BITS in all. Their own bytes scale
    with it; what comes with them counts at the most that it is. Exact but for elements of 4 bits
    without a neighbour, blocks that are not full, and scales of weights that may stay float.
    """
    counted = [w.value for w in graph.weights if w.counted]
    trace, ledger = graph.trace, graph.trace.ledger
    kept = [
        replace(x, itemsize=0) if name in found.gone and name not in dialled else x
        for name, x in zip(counted, ledger.parameters, strict=True)
    ]
    items = [item for name, item in found.fixed.items() if name not in counted]
    for name, by_bits in found.weights.items():
        most = max(by_bits.values(), key=lambda own: _dense_bytes(own, graph))
        items += [item for item in most if not (item.codes and name in dialled)]
    extra = [part for item in items for part in item.at_most()]
    extra += [HALF for name, own in dialled.items() if min(own) <= 4]
    whole = replace(ledger, parameters=(*kept, *extra))
    unnamed = (Counted((), ()),) * len(extra)
    trace = replace(trace, ledger=whole, parameters=(*trace.parameters, *unnamed))
    return replace(graph, trace=trace, costs={**graph.costs, "bytes": weight_bytes(whole)})


def _dense_bytes(items: Sequence[Item], graph: Hypergraph) -> int:
    """Of what comes with a weight, at dense counts."""
    return sum(item.nbytes(graph.dense()) for item in items if not item.codes)

"""Activations that cost the same: what a run holds, as sizes of axes in kept counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from prunec.compiler.cost import Linear
from prunec.compiler.costs.ledger import StoredTensor
from prunec.compiler.labels import AxisLabels, Labels
from prunec.compiler.schedule import Timeline, moments


@dataclass(frozen=True, slots=True)
class Kinds:
    """Buffers whose sizes are the same function of the kept counts.

    tensors, examples: size and the first buffer of each kind. computed: (kind, how often).
    moments: (kind, how many are live) whenever more memory is taken.
    """

    tensors: tuple[StoredTensor, ...]
    examples: tuple[str, ...]
    computed: tuple[tuple[int, int], ...]
    moments: tuple[tuple[tuple[int, int], ...], ...]


def kinds_of(
    timeline: Timeline, labels: Mapping[str, AxisLabels], size: Callable[[Labels], Linear]
) -> Kinds:
    """The kinds of buffers of a run. size: of an axis."""
    numbers: dict[tuple[float, int, tuple[Linear, ...]], int] = {}
    kinds: dict[str, int] = {}
    examples: list[str] = []
    tensors: list[StoredTensor] = []
    for name, dense_bytes in timeline.sizes.items():
        shape = tuple(map(size, labels[name]))
        elements = prod(map(len, labels[name]))
        itemsize = dense_bytes // elements if elements else 0
        fixed = prod([axis.constant for axis in shape if not axis.terms])
        key = itemsize, fixed, tuple(sorted(axis for axis in shape if axis.terms))
        kind = kinds[name] = numbers.setdefault(key, len(numbers))
        if kind == len(tensors):
            tensors.append(StoredTensor((Linear(fixed), *key[2]), itemsize))
            examples.append(name)
    computed: dict[int, int] = {}
    for name, times in timeline.computed:
        computed[kinds[name]] = computed.get(kinds[name], 0) + times
    return Kinds(
        tuple(tensors),
        tuple(examples),
        tuple(computed.items()),
        tuple(tuple(moment.items()) for moment in moments(timeline.run, kinds)),
    )

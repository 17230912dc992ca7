"""The product of coupling: which channels must leave together, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from prunec.compiler.cost import Linear, Polynomial
from prunec.compiler.diagnostics import Diagnostic
from prunec.compiler.errors import UsageError
from prunec.compiler.spec import suggest

Axis = tuple[str, int]
Groups = NDArray[np.int64]
KEPT = -1  # group index of a channel that can never be removed


@dataclass(frozen=True, slots=True)
class Member:
    """An axis that a hyperedge runs through.

    multiplicity: how many channels of the axis belong to each of its groups.
    """

    value: str
    axis: int
    multiplicity: int
    is_weight: bool


@dataclass(frozen=True, slots=True)
class Hyperedge:
    """Channel groups that are interchangeable in cost.

    size: number of channel groups. first: index of its first group; its groups are
    ``range(first, first + size)``, ordered by position on the axis it is named after.
    """

    name: str
    size: int
    first: int
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, eq=False)
class CountPatch:
    """Elements of an attribute or integer input that are kept counts.

    key: attribute name or input position. value: dense contents, flat. counts: (flat position,
    groups) pairs. drop: attributes that go when the patch is written.
    """

    node: str
    key: str | int
    value: tuple[int, ...]
    scalar: bool
    counts: tuple[tuple[int, Groups], ...]
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class IndexPatch:
    """Constant indices into `source`: they become ranks among the kept positions.

    key: input position, or None where the node becomes a Gather on `axis`. picked: groups per
    axis of `indices`; what leaves there leaves the index tensor too.
    """

    node: str
    key: int | None
    axis: int
    source: Groups
    indices: NDArray[np.int64]
    picked: tuple[Groups, ...]


@dataclass(frozen=True, slots=True)
class WeightInfo:
    """A stored tensor of the dense model; counted: it is a parameter of `params` and `bytes`."""

    value: str
    shape: tuple[int, ...]
    itemsize: float
    counted: bool


@dataclass(frozen=True, slots=True, eq=False)
class Hypergraph:
    """Hyperedges over axes, exact costs and everything that a rewriting must change.

    axes: (value name, axis) -> group index per position, KEPT where a channel never leaves;
    an axis that can't lose any channel is absent. costs: resource -> polynomial in the kept
    counts, ordered as `edges`. reads: activation axes that some consumer sums over. made: the
    output axes of all weights that contractions multiply with, frozen ones included.
    """

    edges: tuple[Hyperedge, ...]
    axes: Mapping[Axis, Groups]
    costs: Mapping[str, Polynomial]
    patches: tuple[CountPatch | IndexPatch, ...]
    weights: tuple[WeightInfo, ...]
    reads: tuple[Axis, ...]
    made: tuple[Axis, ...]
    diagnostics: tuple[Diagnostic, ...]
    trace: Trace = field(repr=False)

    @property
    def number_of_groups(self) -> int:
        """How many 0/1 decisions there are."""
        return sum(edge.size for edge in self.edges)

    def dense(self) -> tuple[int, ...]:
        """Sizes of all hyperedges."""
        return tuple(edge.size for edge in self.edges)

    def edge(self, name: str) -> Hyperedge:
        """The hyperedge of that name. Raises UsageError with the nearest name."""
        for edge in self.edges:
            if edge.name == name:
                return edge
        raise UsageError(f"no hyperedge {name!r}{suggest(name, (e.name for e in self.edges))}")

    def edge_of_group(self) -> NDArray[np.int64]:
        """(number_of_groups,) index of the hyperedge of each group."""
        return np.repeat(np.arange(len(self.edges)), self.dense())

    def to_networkx(self) -> nx.Graph[str]:
        """Bipartite incidence graph: hyperedge nodes (kind="edge") and axis nodes (kind="axis")."""
        graph: nx.Graph[str] = nx.Graph()
        for edge in self.edges:
            graph.add_node(edge.name, kind="edge", bipartite=0, size=edge.size)
            for m in edge.members:
                axis = f"axis {m.value}:{m.axis}"
                graph.add_node(axis, kind="axis", bipartite=1, weight=m.is_weight)
                graph.add_edge(edge.name, axis, multiplicity=m.multiplicity)
        return graph


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What `explain` needs: the labels of every axis and the ties between them."""

    labels: Mapping[str, tuple[NDArray[np.int64], ...]]
    ties: Sequence[tuple[NDArray[np.int64], NDArray[np.int64], str, str]]
    constants: frozenset[str]


def linear(groups: Groups, edge_of_group: NDArray[np.int64], sizes: Sequence[int]) -> Linear:
    """Kept count of an axis as a linear form in the kept counts of its hyperedges."""
    kept = int((groups == KEPT).sum())
    per_edge = np.bincount(edge_of_group[groups[groups != KEPT]], minlength=len(sizes))
    terms = []
    for e in np.flatnonzero(per_edge).tolist():
        assert per_edge[e] % sizes[e] == 0, "groups of a hyperedge differ in multiplicity"
        terms.append((e, int(per_edge[e]) // sizes[e]))
    return Linear(kept, tuple(terms))

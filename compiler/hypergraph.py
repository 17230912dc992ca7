"""The product of coupling: which channels must leave together, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from prunec.compiler.cost import Cost, Linear
from prunec.compiler.costs.ledger import Ledger
from prunec.compiler.diagnostics import Diagnostic
from prunec.compiler.encoding import Encoding
from prunec.compiler.errors import UsageError
from prunec.compiler.freedom import Freedom
from prunec.compiler.labels import Tie
from prunec.compiler.reasons import Reason
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


@dataclass(frozen=True, slots=True, eq=False)
class PinPatch:
    """A float attribute that must be written once some of `groups` leave."""

    node: str
    key: str
    value: float
    groups: Groups


@dataclass(frozen=True, slots=True, eq=False)
class WindowPatch:
    """A convolution whose kernel may lose positions (`Freedom.kernels`).

    axes: groups per position of each spatial axis. pads: dense (before, after) per axis;
    dilations: dense.
    """

    node: str
    axes: tuple[Groups, ...]
    pads: tuple[tuple[int, int], ...]
    dilations: tuple[int, ...]


Patch = CountPatch | IndexPatch | PinPatch | WindowPatch


@dataclass(frozen=True, slots=True, eq=False)
class Join:
    """An addition whose operands may lack channels that its result has (`Freedom.decouple`).

    out, parts: groups per position of the result and of each operand. owned: whether the operand
    has no other reader. Per position: the result has a channel only if an operand has it, and an
    owned operand has it only if the result has it, or where it can never leave. span: elements of
    the dense result per position.
    """

    node: str
    out: Groups
    parts: tuple[Groups, ...]
    owned: tuple[bool, ...]
    span: int = 1


@dataclass(frozen=True, slots=True)
class WeightInfo:
    """A stored tensor of the dense model; counted: it is a parameter of `params` and `bytes`.

    itemsize: bytes of an item; elements of 4 bits have 0.5. encoding: how integers are weights.
    """

    value: str
    shape: tuple[int, ...]
    itemsize: float
    counted: bool
    encoding: Encoding | None = None

    @property
    def elements_per_item(self) -> int:
        """How many parameters one stored item holds; more than one where bytes are packed."""
        return self.encoding.packing if self.encoding else 1


@dataclass(frozen=True, slots=True, eq=False)
class Hypergraph:
    """Hyperedges over axes, exact costs and everything that a rewriting must change.

    axes: (value name, axis) -> group index per position, KEPT where a channel never leaves;
    an axis that can't lose any channel is absent. costs: resource -> polynomial in the kept
    counts, ordered as `edges`. reads: activation axes that some consumer sums over. read_by: the
    same by consumer, bodies included: (node, input position, axis). made: the
    output axes of all weights that contractions multiply with, frozen ones included.
    inexact: nodes that treat the other channels differently once some are gone, and why; empty
    unless `freedom`, under which the channels were coupled, allows it. recurs: (node, input
    position, axis) of weights along which a node reads its own state. zeros: integer value -> the
    value that holds its zero point ("" for 0): a removed channel is that integer. joins: additions
    of decoupled streams. branches: sets of hyperedges (indices) that may all be 0, which removes
    the residual branch that they are inside of; unclosed: why the others may not. subsets:
    hyperedge (index) -> the sets of positions that may be kept of it, where not all may (rows of a
    kernel). held: activation -> its dense
    bytes, for those that `memory` and `activations` know. order: names of the nodes as a pruned
    model is written, where that needs less memory than the order of the file; else ().
    """

    edges: tuple[Hyperedge, ...]
    axes: Mapping[Axis, Groups]
    costs: Mapping[str, Cost]
    patches: tuple[Patch, ...]
    weights: tuple[WeightInfo, ...]
    reads: tuple[Axis, ...]
    made: tuple[Axis, ...]
    inexact: Mapping[str, tuple[Reason, str]]
    recurs: tuple[tuple[str, int, int], ...]
    freedom: Freedom
    diagnostics: tuple[Diagnostic, ...]
    trace: Trace = field(repr=False)
    zeros: Mapping[str, str] = field(default_factory=dict)
    joins: tuple[Join, ...] = ()
    branches: tuple[tuple[int, ...], ...] = ()
    unclosed: Mapping[int, str] = field(default_factory=dict)
    subsets: Mapping[int, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    read_by: tuple[tuple[str, int, int], ...] = ()

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
class Counted:
    """The label arrays of what one item of the ledger is counted from.

    made: whether the item's own weight makes that axis.
    """

    axes: tuple[NDArray[np.int64], ...]
    made: tuple[bool, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What `explain` and `coverage` need: the labels of every axis and the ties between them.

    groups, components: (labels,) group and component of each label, KEPT where it never leaves; a
    label with a component but without a group is the only one of its kind. ledger: what the costs
    were counted from; multiplications, parameters and buffers are its items (a buffer of each
    kind). fixed: axes that were frozen from the start, with the reason.
    """

    labels: Mapping[str, tuple[NDArray[np.int64], ...]]
    ties: Sequence[Tie]
    constants: frozenset[str]
    components: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    groups: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    ledger: Ledger = field(default_factory=lambda: Ledger((), ()))
    multiplications: tuple[Counted, ...] = ()
    parameters: tuple[Counted, ...] = ()
    buffers: tuple[Counted, ...] = ()
    fixed: Mapping[Axis, Reason] = field(default_factory=dict)


def linear(groups: Groups, edge_of_group: NDArray[np.int64], sizes: Sequence[int]) -> Linear:
    """Kept count of an axis as a linear form in the kept counts of its hyperedges."""
    live = groups[groups != KEPT]
    if not len(live):
        return Linear(len(groups))
    terms = []
    own = edge_of_group[live]
    first = own[:1]
    # Most axes belong to one hyperedge: that needs no sorting.
    whole = (first, np.array([len(own)])) if (own == first).all() else None
    edges, counts = np.unique(own, return_counts=True) if whole is None else whole
    for e, count in zip(edges.tolist(), counts.tolist(), strict=True):
        assert count % sizes[e] == 0, "groups of a hyperedge differ in multiplicity"
        terms.append((e, count // sizes[e]))
    return Linear(len(groups) - len(live), tuple(terms))

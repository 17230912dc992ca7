"""Residual branches that may vanish whole: hyperedges that may be 0, and what that saves.

Without a hyperedge's channels some values have an empty axis; sums over nothing give their bias;
constants propagate up to an addition that another operand keeps alive, or a concatenation, which
gets shorter. Hyperedges all of whose axes lie in what vanishes are 0 with it: the two inner
convolutions of a bottleneck, queries and keys of an attention whose values are gone, a squeeze
inside a branch. Allowed is what leaves every output with the graph inputs that it depends on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from prunec.compiler.cost import Cost, Linear, Polynomial, Table, Tabled, Term
from prunec.compiler.costs import COSTS
from prunec.compiler.costs.ledger import Ledger
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.region import SUMS, Region, Wiring

Edges = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """Hyperedges that are 0 together, and the region that goes with them."""

    edges: Edges
    region: Region

    @property
    def is_residual(self) -> bool:
        """Whether it ends in sums alone; a branch that gates others leaves a factor behind."""
        return SUMS.union(["Concat"]).issuperset(self.region.readers.values())


def with_branches(model: ir.Model, graph: Hypergraph) -> Hypergraph:
    """The hypergraph with its branches, and costs that know what goes with them.

    None where sums are decoupled: there a branch may write no channel by itself.
    """
    if graph.joins or not graph.edges:
        return graph
    found, why = find_branches(Wiring(model.graph, graph))
    index = _Index.of(graph)
    ledgers = [(branch.edges, index.within(branch.region)) for branch in found]
    costs = {name: _branched(name, cost, ledgers) for name, cost in graph.costs.items()}
    return replace(graph, branches=tuple(b.edges for b in found), unclosed=why, costs=costs)


def find_branches(wiring: Wiring) -> tuple[tuple[Branch, ...], dict[int, str]]:
    """Branches that share no hyperedge and may all vanish at once; why other hyperedges may not.

    Where one contains another, residual ones and then smaller ones come first: of a block with a
    squeeze-and-excitation inside, the block; of a block of blocks, the inner ones.
    """
    edges = wiring.hypergraph.edges
    closed = {e: closure(wiring, e) for e in range(len(edges))}
    candidates = list({b.edges: b for b in closed.values() if isinstance(b, Branch)}.values())
    candidates.sort(key=lambda b: (not b.is_residual, len(b.edges), b.edges))
    apart: list[Branch] = []
    taken: set[int] = set()
    for branch in candidates:
        if taken.isdisjoint(branch.edges):
            apart.append(branch)
            taken.update(branch.edges)
    if not _agree(wiring, apart):
        accepted: list[Branch] = []
        for branch in apart:
            accepted += [branch] if _agree(wiring, [*accepted, branch]) else []
        apart = accepted
    chosen = {e for branch in apart for e in branch.edges}
    why = {
        e: b if isinstance(b, str) else _why_left(b, chosen, [x.name for x in edges])
        for e, b in closed.items()
        if e not in chosen
    }
    return tuple(sorted(apart, key=lambda b: b.edges)), why


def closure(wiring: Wiring, edge: int) -> Branch | str:
    """The smallest branch with this hyperedge in it, or why there is none."""
    edges = {edge}
    while True:
        region = wiring.region(edges)
        more = region.wanted | (frozenset() if region.wrong else inside(wiring, region))
        if edges.issuperset(more):
            break
        edges |= more
    if region.wrong or not region.nodes:
        return region.wrong or "no operator would go with it"
    return Branch(tuple(sorted(edges)), region)


def _why_left(branch: Branch, chosen: set[int], names: Sequence[str]) -> str:
    """Of a branch that could vanish by itself."""
    others = [names[e] for e in branch.edges if e in chosen]
    if others:
        return f"{others[0]} would be 0 too, and that closes a branch of its own"
    return "another way must stay open, or a weight would go only with several branches"


def inside(wiring: Wiring, region: Region) -> frozenset[int]:
    """Hyperedges all of whose axes are of values that vanish."""
    near = {e for value in region.values for e in wiring.edges_of.get(value, ())}
    return frozenset(
        e for e in near if region.values.issuperset(value for value, _ in wiring.filling[e])
    )


def _agree(wiring: Wiring, branches: Sequence[Branch]) -> bool:
    """Whether all of them may vanish, and then exactly what goes with each alone, once.

    Two operands of a sum that both go may take the sum along; of a weight or a product that goes
    only when several branches do, or with either of two, the costs could not tell.
    """
    counted = {w.value for w in wiring.hypergraph.weights if w.counted}
    counted.update(wiring.hypergraph.trace.ledger.multiplied_by)
    apart: set[str] = set()
    for branch in branches:
        own = _costly(branch.region, counted)
        if not apart.isdisjoint(own):
            return False
        apart |= own
    union = wiring.region([e for branch in branches for e in branch.edges])
    return not union.wrong and apart == _costly(union, counted)


def _costly(region: Region, counted: Set[str]) -> frozenset[str]:
    """The weights, and the nodes that multiply, of a region."""
    return frozenset([*region.values, *region.nodes]) & counted


def _branched(name: str, cost: Cost, branches: Sequence[tuple[Edges, Ledger]]) -> Cost:
    """The cost, exact where branches are 0 as well: what their regions cost without a factor 0."""
    if not isinstance(cost, Polynomial):
        return cost
    lost = []
    for edges, ledger in branches:
        own = COSTS[name](ledger).rows[0].terms
        left = tuple(t for t in own if not any(_is_zero(f, edges) for f in t.factors))
        if left:
            lost.append((edges[0], left))
    return replace(cost, lost=tuple(lost))


def with_closing(cost: Cost, sizes: Sequence[int]) -> Cost:
    """A cost whose rows, too, know what goes with a branch, for a problem in which branches close.

    sizes: dense counts. Norms and biases of one axis become tables, which are 0 where the branch
    is; what has more axes, of which there is hardly any, counts as if it stayed.
    """
    if not isinstance(cost, Polynomial) or not cost.lost:
        return cost
    merged = {term.factors: term.scale for term in cost.terms}
    tables = []
    for e, terms in cost.lost:
        for term in terms:
            if len(term.factors) < 2:
                merged[term.factors] -= term.scale
                tables.append(_while_open(e, term, sizes))
    left = (Term(factors, scale) for factors, scale in sorted(merged.items()) if scale)
    return Tabled(Polynomial(tuple(left)), tuple(tables))


def _while_open(e: int, term: Term, sizes: Sequence[int]) -> Table:
    """A term of one axis at most, and 0 where hyperedge `e` is 0."""
    open_at = np.ones(1, np.int64)
    axes = (Linear(0, ((e, 1),)), *term.factors)
    points = [np.arange(factor(sizes) + 1, dtype=np.int64) for factor in term.factors]
    values = term.scale * np.prod(points, axis=0, dtype=np.float64)
    return Table(axes, (open_at, *points), np.reshape(values, (1, -1) if points else (1,)))


@dataclass(frozen=True, slots=True, eq=False)
class _Index:
    """Items of the ledger by node and by weight, with their places in it."""

    ledger: Ledger
    products: Mapping[str, Sequence[int]]
    stored: Mapping[str, int]

    @classmethod
    def of(cls, graph: Hypergraph) -> _Index:
        """Look every item up once."""
        products: dict[str, list[int]] = {}
        for k, node in enumerate(graph.trace.ledger.multiplied_by):
            products.setdefault(node, []).append(k)
        counted = [w.value for w in graph.weights if w.counted]
        return cls(graph.trace.ledger, products, {name: k for k, name in enumerate(counted)})

    def within(self, region: Region) -> Ledger:
        """What of the ledger goes with a region."""
        own = sorted(k for node in region.nodes for k in self.products.get(node, ()))
        tensors = sorted(self.stored[name] for name in region.values if name in self.stored)
        return Ledger(
            multiplications=tuple(self.ledger.multiplications[k] for k in own),
            parameters=tuple(self.ledger.parameters[k] for k in tensors),
        )


def _is_zero(size: Linear, edges: Edges) -> bool:
    """Whether an axis has nothing left without these hyperedges."""
    return not size.constant and all(e in edges for e, _ in size.terms)

"""Dials in the selection problem: extra variables that scale what a weight costs.

To give a weight a dial: make a `Dial` with ascending `counts` (what the costs are proportional to)
and `values` in the currency of the hyperedges' values (`pose`: shares of the whole), pass it to
`decide(..., dials=...)` and read `Choice.dials[name]`. Solvers see one more hyperedge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from prunec.compiler.cost import Cost, Linear, Polynomial, Table, Tabled
from prunec.compiler.costs import COSTS
from prunec.compiler.costs.ledger import Ledger, StoredTensor
from prunec.compiler.dial import Dial
from prunec.compiler.hypergraph import Hypergraph, linear
from prunec.compiler.problem import FloatArray, IntArray, Limit, Problem

# Kind -> resources that are in proportion to the count; "flops" those of the dial's nodes.
KINDS: Mapping[str, frozenset[str]] = {
    "groups": frozenset({"flops", "params", "bytes"}),
    "bits": frozenset({"bytes"}),
}
LATENCY = "latency"
FIT = "group sizes"  # the limit, 0, on axes that a number of groups does not divide


def sizes_of(graph: Hypergraph, dials: Sequence[Dial] = ()) -> tuple[int, ...]:
    """Counts of the dense model: of hyperedges, then of dials."""
    return (*graph.dense(), *(dial.whole for dial in dials))


def dialled_costs(graph: Hypergraph, dials: Sequence[Dial]) -> dict[str, Cost]:
    """The costs of the graph with one more factor, ``count / whole``, on what the dials scale.

    Dial k is variable ``len(graph.edges) + k``. Exact: a cost at chosen counts is that of the
    rewritten model, as far as numbers of groups divide the axes. Where a branch may vanish, no
    dial may belong to a weight in it that has none of the branch's hyperedges on an axis.
    """
    costs = dict(graph.costs)
    for resource in sorted(set().union(*(KINDS[dial.kind] for dial in dials))):
        own = [k for k, dial in enumerate(dials) if resource in KINDS[dial.kind]]
        costs[resource] = _with_lost(COSTS[resource](_scaled(graph, dials, own)), costs[resource])
    if isinstance(latency := costs.get(LATENCY), Tabled):
        times = tuple(_time(graph, k, dial) for k, dial in enumerate(dials) if dial.times)
        costs[LATENCY] = replace(latency, tables=(*latency.tables, *times))
    return costs


def _with_lost(cost: Cost, dense: Cost) -> Cost:
    """The cost with what goes with branches that vanish, as the dense one has it."""
    assert isinstance(cost, Polynomial) and isinstance(dense, Polynomial), "dials scale products"
    return replace(cost, lost=dense.lost)


def _time(graph: Hypergraph, k: int, dial: Dial) -> Table:
    """What a dial adds to the time of the dense model, or saves; in proportion to both axes.

    Grouped kernels of fewer channels are not measured: of the dense ones the tables know.
    """
    edges, dense = graph.edge_of_group(), graph.dense()
    factors, points, share = [], [], np.ones(())
    for axis in (0, 1):
        groups = graph.axes.get((dial.weight, axis))
        size = Linear(1) if groups is None else linear(groups, edges, dense)
        most = size(dense)
        if size.terms:
            factors.append(size)
            points.append(np.array([1, most], np.int64))
            share = np.multiply.outer(share, np.array([1.0 / most, 1.0]))
    factors.append(Linear(0, ((len(dense) + k, 1),)))
    told = {**dict(zip(dial.counts, dial.times, strict=True)), dial.whole: 0.0}
    points.append(np.array(list(told), np.int64))
    return Table(
        tuple(factors), tuple(points), np.multiply.outer(share, np.array([*told.values()]))
    )


def _scaled(graph: Hypergraph, dials: Sequence[Dial], own: Sequence[int]) -> Ledger:
    """The ledger with the counts of dials `own` as axes of multiplications and of parameters."""
    ledger, first = graph.trace.ledger, len(graph.edges)
    of_node: dict[str, list[int]] = {}
    of_weight: dict[str, list[int]] = {}
    for k in own:
        of_weight.setdefault(dials[k].weight, []).append(k)
        for node in dials[k].nodes:
            of_node.setdefault(node, []).append(k)

    def axes(these: Sequence[int]) -> tuple[Linear, ...]:
        return tuple(Linear(0, ((first + k, 1),)) for k in these)

    def part(these: Sequence[int]) -> int:
        return prod(dials[k].whole for k in these)

    counted = [w.value for w in graph.weights if w.counted]
    # Behind the weights: what else a quantised file stores (`passes/quantize/footprint.py`).
    counted += [""] * (len(ledger.parameters) - len(counted))
    products = [
        (scale / part(these), (*shape, *axes(these))) if (these := of_node.get(node, ())) else item
        for item, node in zip(ledger.multiplications, ledger.multiplied_by, strict=True)
        for scale, shape in (item,)
    ]
    stored = [
        StoredTensor((*x.shape, *axes(these)), x.itemsize / part(these), x.packing / part(these))
        if (these := of_weight.get(name, ()))
        else x
        for x, name in zip(ledger.parameters, counted, strict=True)
    ]
    return replace(ledger, multiplications=tuple(products), parameters=tuple(stored))


def with_dials(problem: Problem, graph: Hypergraph, dials: Sequence[Dial]) -> Problem:
    """The problem with one more variable per dial, after those of the hyperedges.

    Its costs must be those of `dialled_costs`. Numbers of groups that do not divide what is kept
    are ruled out by one more limit, `FIT` of 0 on a sum of tables that say so by a 1.
    """
    if not dials:
        return problem
    levels = (*problem.levels, *(np.array(dial.counts, np.int64) for dial in dials))
    values = (*problem.values, *map(_values, dials))
    names = (*problem.names, *(dial.name for dial in dials))
    assert len(set(names)) == len(names), "a dial has the name of another, or of a hyperedge"
    costs, limits = dict(problem.costs), problem.limits
    tables = tuple(_misfits(graph, levels, dials))
    if tables:
        costs[FIT], limits = Tabled(Polynomial(()), tables), (*limits, Limit(FIT, 0))
    return replace(problem, names=names, values=values, levels=levels, costs=costs, limits=limits)


def _values(dial: Dial) -> FloatArray:
    """(whole + 1,) value of every count; between two of the dial's, that of the lower one."""
    at = np.searchsorted(dial.counts, np.arange(dial.whole + 1), side="right") - 1
    return np.array(dial.values, np.float64)[np.maximum(at, 0)]


def _misfits(
    graph: Hypergraph, levels: Sequence[IntArray], dials: Sequence[Dial]
) -> Iterator[Table]:
    """Tables over a hyperedge and a dial, with 1 where the number of groups does not divide.

    What leaves of each hyperedge is divided by itself, also where it shares the axis with others:
    sums of many have too many sizes. Every choice divides the dense axis, so that is enough.
    """
    edges, first = graph.edge_of_group(), len(graph.edges)
    for k, dial in enumerate(dials):
        if dial.kind != "groups":
            continue
        found = {
            term
            for axis in (0, 1)
            if (groups := graph.axes.get((dial.weight, axis))) is not None
            for term in linear(groups, edges, graph.dense()).terms
        }
        for e, multiplicity in sorted(found):
            sizes = multiplicity * levels[e]
            gone = multiplicity * graph.edges[e].size - sizes
            misfit = gone[:, None] % np.array(dial.choices)[None, :] != 0
            if misfit.any():
                axes = (Linear(0, ((e, multiplicity),)), Linear(0, ((first + k, 1),)))
                points = (sizes, np.array(dial.counts, np.int64))
                yield Table(axes, points, misfit.astype(np.float64))

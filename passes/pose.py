"""The selection problem of scores under limits: values, levels, costs."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from prunec.compiler.branches import with_closing
from prunec.compiler.cost import Cost
from prunec.compiler.dial import Dial
from prunec.compiler.errors import (
    UsageError,
)
from prunec.compiler.hypergraph import Hyperedge, Hypergraph
from prunec.compiler.multipliers import multipliers_of
from prunec.compiler.problem import FloatArray, IntArray, Limit, Problem
from prunec.passes.dials import dialled_costs, sizes_of, with_dials
from prunec.passes.levels import (
    closable,
    edge_levels,
    kept_share,
    subset_levels,
    subset_share,
)
from prunec.passes.options import Options


def pose(
    graph: Hypergraph,
    scores: FloatArray,
    limits: tuple[Limit, ...],
    options: Options,
    counts: Sequence[int] | None = None,
    at_most: Sequence[int] | None = None,
    dials: Sequence[Dial] = (),
) -> Problem:
    """The selection problem of these scores under these limits.

    counts: where hyperedges are weighed, by default those that are there. at_most: see
    `allowed_levels`. dials: further variables, behind the hyperedges.
    """
    values = []
    number = len(graph.edges)
    totals = np.asarray(np.bincount(graph.edge_of_group(), scores, number), np.float64)
    at = next((n for n in (counts, at_most) if n is not None), graph.dense())
    shares = options.weighing(graph, limits, at, totals)
    shares = shares / multipliers_of(graph, options.multipliers)
    for e, edge in enumerate(graph.edges):
        own = scores[edge.first : edge.first + edge.size]
        share = (
            subset_share(own, graph.subsets[e])
            if e in graph.subsets
            else kept_share(np.sort(own)[::-1])
        )
        values.append(shares[e] * share**options.exponent)
    levels, together = allowed_levels(graph, options, at_most)
    problem = Problem(
        names=tuple(e.name for e in graph.edges),
        values=tuple(values),
        levels=levels,
        costs=posed_costs(graph, limits, together, dials),
        limits=limits,
        together=together,
    )
    return with_dials(problem, graph, dials)


def posed_costs(
    graph: Hypergraph,
    limits: tuple[Limit, ...],
    together: tuple[tuple[int, ...], ...],
    dials: Sequence[Dial] = (),
) -> dict[str, Cost]:
    """The limited costs; where branches can close, with rows that know what goes with them."""
    known = dialled_costs(graph, dials)
    costs = {x.resource: known[x.resource] for x in limits}
    if not together:
        return costs
    return {name: with_closing(cost, sizes_of(graph, dials)) for name, cost in costs.items()}


def allowed_levels(
    graph: Hypergraph, options: Options, at_most: Sequence[int] | None = None
) -> tuple[tuple[IntArray, ...], tuple[tuple[int, ...], ...]]:
    """Per hyperedge, the kept counts that the options allow; and the sets that are 0 together.

    at_most: per hyperedge, the count that it has already and may not exceed; None: the dense one.
    """
    protected = _protected(graph, options)
    settings = [_settings(graph, e, options) for e in range(len(graph.edges))]
    together = closable(graph, [min_keep for _, min_keep in settings], protected)
    closing = {e for branch in together for e in branch}
    levels = []
    for e, (align, min_keep) in enumerate(settings):
        edge, least = graph.edges[e], max(min_keep, 1)
        allowed = (
            subset_levels(graph.subsets[e], edge.size, least, protected[e])
            if e in graph.subsets
            else edge_levels(edge, align, least, protected[e])
        )
        allowed = np.append([0], allowed) if e in closing else allowed
        if at_most is not None:
            below = allowed[allowed < at_most[e]]
            allowed = np.append(below, at_most[e]).astype(np.int64)
        levels.append(allowed)
    return tuple(levels), together


def names_of(graph: Hypergraph, edge: Hyperedge) -> list[str]:
    """What a pattern is searched in: the hyperedge's name and the stored axes that make it.

    These are output axes of weights and vectors (biases, norms), not the input axes of consumers.
    """
    made = set(graph.made)
    vectors = {w.value for w in graph.weights if len(w.shape) == 1}
    return [
        edge.name,
        *(
            f"{m.value}:{m.axis}"
            for m in edge.members
            if (m.value, m.axis) in made or m.value in vectors
        ),
    ]


def _matches(pattern: str, names: Sequence[str]) -> bool:
    try:
        return any(re.search(pattern, name) for name in names)
    except re.error as error:
        raise UsageError(f"pattern {pattern!r} is not a regular expression: {error}") from None


def _protected(graph: Hypergraph, options: Options) -> list[bool]:
    if not options.channels:
        return [True] * len(graph.edges)
    if not (options.keep or options.only or options.overrides):
        return [False] * len(graph.edges)
    out = []
    named = [names_of(graph, edge) for edge in graph.edges]
    for names in named:
        out.append(
            any(_matches(p, names) for p in options.keep)
            or (bool(options.only) and not any(_matches(p, names) for p in options.only))
            or any(o.keep and _matches(p, names) for p, o in options.overrides.items())
        )
    for pattern in (*options.keep, *options.only, *options.overrides):
        if not any(_matches(pattern, names) for names in named):
            raise UsageError(f"pattern {pattern!r} matches no hyperedge (see `prunec inspect`)")
    return out


def _settings(graph: Hypergraph, e: int, options: Options) -> tuple[int | None, int]:
    """Alignment and minimum of a hyperedge; the general ones are for channels, not for kernels."""
    edge = graph.edges[e]
    align, min_keep = options.align, options.min_keep
    if e in graph.subsets:
        align, min_keep = 1, min(min_keep, 1)
    for pattern, own in options.overrides.items():
        if _matches(pattern, names_of(graph, edge)):
            align = align if own.align is None else own.align
            min_keep = min_keep if own.min_keep is None else own.min_keep
    if (align is not None and align < 1) or min_keep < 0:
        raise UsageError(
            f"align must be at least 1 and min_keep at least 0 (hyperedge {edge.name})"
        )
    return align, min_keep

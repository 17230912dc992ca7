"""Which inequalities matter: a peak over many moments has few that can be the highest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import prod

import numpy as np

from prunec.compiler.cost import Peak, Polynomial, Row
from prunec.compiler.problem import IntArray, Problem

MONOMIALS = 20_000  # most products that the rows may expand into
Monomials = dict[tuple[int, ...], float]


def without_idle_rows(problem: Problem) -> Problem:
    """The same choices from fewer rows.

    A row of a peak is idle if it holds even at the dense counts (costs only grow), or if another
    row of the same peak has no smaller coefficient anywhere.
    """
    costs = dict(problem.costs)
    for limit in problem.limits:
        cost = costs[limit.resource]
        if not isinstance(cost, Peak):
            continue
        dense = problem.dense()
        moments = tuple(m for m in dict.fromkeys(cost.moments) if m(dense) > limit.at_most)
        costs[limit.resource] = Peak(_undominated(moments, problem.levels))
    return replace(problem, costs=costs)


def _undominated(
    moments: tuple[Polynomial, ...], levels: Sequence[IntArray]
) -> tuple[Polynomial, ...]:
    expanded = [monomials(moment, levels) for moment in moments]
    if any(row is None for row in expanded):
        return moments
    rows = [row for row in expanded if row is not None]
    names = {key: at for at, key in enumerate(sorted({k for row in rows for k in row}))}
    table = np.zeros((len(rows), len(names)))
    for r, row in enumerate(rows):
        for key, scale in row.items():
            table[r, names[key]] = scale
    kept: list[int] = []
    # The largest sum first: a row is only ever dominated by one with a sum as large.
    for r in np.argsort(-table.sum(axis=1), kind="stable").tolist():
        if not kept or not (table[kept] >= table[r]).all(axis=1).any():
            kept.append(r)
    return tuple(moments[r] for r in sorted(kept))


def monomials(row: Row, levels: Sequence[IntArray]) -> Monomials | None:
    """The exact part of a row as a sum of ``scale * product of n[e]`` over the hyperedges with a
    choice; None where it expands into too many."""
    out: Monomials = {}
    count = 0
    for term in row.terms:
        factors: list[Mapping[tuple[int, ...], int]] = []
        for factor in term.factors:
            parts: dict[tuple[int, ...], int] = {(): factor.constant}
            for e, m in factor.terms:
                if len(levels[e]) > 1:
                    parts[(e,)] = m
                else:
                    parts[()] += m * int(levels[e][0])
            factors.append({key: m for key, m in parts.items() if m})
        count += prod(len(f) for f in factors)
        if count > MONOMIALS:
            return None
        for choice in product(*(f.items() for f in factors)):
            powers = tuple(sorted(e for part, _ in choice for e in part))
            out[powers] = out.get(powers, 0.0) + term.scale * prod(m for _, m in choice)
    return out

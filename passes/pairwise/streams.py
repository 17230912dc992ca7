"""Joined hyperedges: the best channels of a whole stream, channel position by channel position.

Joins relate groups at the same position only, so a stream falls into small components of groups.
Components of the same form are solved together, by eliminating their 0/1 variables over arrays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from prunec.compiler.hypergraph import KEPT, Join
from prunec.compiler.pairwise import Mask, PairwiseProblem
from prunec.compiler.problem import FloatArray, IntArray
from prunec.passes.pairwise.elimination import Elimination, Table

NEVER = -1e18  # value of a forbidden choice: far below any objective, without NaN from inf - inf
WIDEST = 1 << 16  # table entries per component
TRUE = -1  # the variable that is always 1

# (kind, variables): ("any", (result, *parts)) is result <= OR(parts); ("reads", (part, result)) is
# part <= result.
Rule = tuple[str, tuple[int, ...]]
Fixed = Mapping[int, Mask]


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """Components of one form. edges: hyperedge per variable. places: (components, variables)
    positions within their hyperedges. rules: what the joins say of the variables; tables: the same,
    one per scope of `plan`.
    """

    edges: tuple[int, ...]
    rules: tuple[Rule, ...]
    places: IntArray
    tables: tuple[Table, ...]
    plan: Elimination

    def solve(
        self, gains: Mapping[int, FloatArray], fixed: Fixed
    ) -> tuple[FloatArray, list[IntArray]]:
        """Best value of every component and its variables.

        gains: per hyperedge, of each group. fixed: hyperedges whose masks are given.
        """
        unary = []
        for v, e in enumerate(self.edges):
            own = np.zeros((len(self.places), 2))
            own[:, 1] = gains[e][self.places[:, v]]
            if e in fixed:
                kept = fixed[e][self.places[:, v]]
                own[kept, 0] = NEVER
                own[~kept, 1] = NEVER
            unary.append(own)
        return self.plan.maximum([*unary, *self.tables])


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Hyperedges (ascending) that joins connect, and their components by form."""

    edges: tuple[int, ...]
    forms: tuple[Form, ...]
    simple: bool

    def best(
        self, gains: Mapping[int, FloatArray], sizes: Sequence[int], fixed: Fixed
    ) -> dict[int, Mask]:
        """Masks per hyperedge that maximise the sum of the gains of kept groups."""
        out = {e: np.zeros(sizes[e], bool) for e in self.edges}
        for form in self.forms:
            _, values = form.solve(gains, fixed)
            for v, e in enumerate(form.edges):
                out[e][form.places[:, v]] = values[v] == 1
        return out

    def differences(self, gains: Mapping[int, FloatArray], edge: int, fixed: Fixed) -> FloatArray:
        """(size,) best total with each group of a hyperedge kept, minus that without it.

        Near -NEVER where it has to stay, near NEVER where it can't.
        """
        size = len(gains[edge])
        every, none = np.ones(size, bool), np.zeros(size, bool)
        out = np.zeros(size)
        for form in self.forms:
            for v, e in enumerate(form.edges):
                if e == edge:
                    kept, _ = form.solve(gains, {**fixed, edge: every})
                    gone, _ = form.solve(gains, {**fixed, edge: none})
                    out[form.places[:, v]] = kept - gone
        return out


def streams(problem: PairwiseProblem) -> tuple[Stream, ...]:
    """The connected components of the joins, in the order of their first hyperedges."""
    edge_of = np.repeat(np.arange(len(problem.sizes)), problem.sizes)
    rules = _rules(problem.joins)
    parent: dict[int, int] = {}

    def root(e: int) -> int:
        while parent.setdefault(e, e) != e:
            parent[e] = parent[parent[e]]
            e = parent[e]
        return e

    for _, groups in rules:
        live = [int(edge_of[g]) for g in groups if g != TRUE]
        for e in live[1:]:
            parent[root(e)] = root(live[0])
        if live:
            root(live[0])
    joined = defaultdict(list)
    for e in sorted(parent):
        joined[root(e)].append(e)
    parts = _components(rules, [e for own in joined.values() for e in own], problem)
    return tuple(
        _stream(tuple(own), [p for p in parts if int(edge_of[p[0][0]]) in set(own)], problem)
        for own in sorted(joined.values())
    )


def _rules(joins: Sequence[Join]) -> list[Rule]:
    """What the joins say of groups, each once and without what is always true."""
    out: dict[Rule, None] = {}
    for join in joins:
        results = join.out.tolist()
        parts = [part.tolist() for part in join.parts]
        for p, result in enumerate(results):
            own = [part[p] for part in parts]
            if result != KEPT and KEPT not in own and result not in own:
                out["any", (result, *dict.fromkeys(own))] = None
            if result == KEPT and KEPT not in own:
                out["any", (TRUE, *dict.fromkeys(own))] = None
            for group, owned in zip(own, join.owned, strict=True):
                if owned and KEPT not in (group, result) and group != result:
                    out["reads", (group, result)] = None
    return list(out)


def _components(
    rules: Sequence[Rule], edges: Sequence[int], problem: PairwiseProblem
) -> list[tuple[list[int], list[Rule]]]:
    """Groups (ascending) and rules of every component; groups without a rule are their own."""
    firsts = problem.firsts
    parent = {g: g for e in edges for g in range(firsts[e], firsts[e + 1])}

    def root(g: int) -> int:
        while parent[g] != g:
            parent[g] = parent[parent[g]]
            g = parent[g]
        return g

    for _, groups in rules:
        live = [g for g in groups if g != TRUE]
        for g in live[1:]:
            parent[root(g)] = root(live[0])
    members, own = defaultdict(list), defaultdict(list)
    for g in sorted(parent):
        members[root(g)].append(g)
    for rule in rules:
        own[root(next(g for g in rule[1] if g != TRUE))].append(rule)
    return [(groups, own[key]) for key, groups in members.items()]


def _stream(
    edges: tuple[int, ...],
    parts: Sequence[tuple[list[int], list[Rule]]],
    problem: PairwiseProblem,
) -> Stream:
    firsts = np.array(problem.firsts)
    edge_of = np.repeat(np.arange(len(problem.sizes)), problem.sizes)
    forms: dict[tuple[tuple[int, ...], tuple[Rule, ...]], list[list[int]]] = defaultdict(list)
    for groups, rules in parts:
        number = {g: v for v, g in enumerate(groups)} | {TRUE: TRUE}
        local = tuple(sorted((kind, tuple(number[g] for g in own)) for kind, own in rules))
        forms[tuple(int(edge_of[g]) for g in groups), local].append(groups)
    made = []
    for (own_edges, local), members in forms.items():
        places = np.array(members, np.int64) - firsts[np.array(own_edges)]
        made.append(_form(own_edges, local, places))
    simple = all(len(set(form.edges)) == len(form.edges) for form in made)
    return Stream(edges, tuple(made), simple)


def _form(edges: tuple[int, ...], rules: tuple[Rule, ...], places: IntArray) -> Form:
    merged: dict[tuple[int, ...], npt.NDArray[np.float64]] = {}
    for kind, variables in rules:
        scope = tuple(sorted({v for v in variables if v != TRUE}))
        table = merged.setdefault(scope, np.zeros((1, *[2] * len(scope))))
        for values in product((0, 1), repeat=len(scope)):
            x = dict(zip(scope, values, strict=True)) | {TRUE: 1}
            first, *rest = (x[v] for v in variables)
            holds = not first or any(rest) if kind == "any" else first <= rest[0]
            if not holds:
                table[(0, *values)] = NEVER
    scopes = [(v,) for v in range(len(edges))] + list(merged)
    return Form(
        edges, rules, places, tuple(merged.values()), Elimination([2] * len(edges), scopes, WIDEST)
    )

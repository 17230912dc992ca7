"""What can be added to a choice: groups of one hyperedge, or bundles that keep the joins."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunec.compiler.pairwise import Mask
from prunec.compiler.problem import FloatArray, IntArray
from prunec.passes.pairwise.ascent import Ascent
from prunec.passes.pairwise.state import State
from prunec.passes.pairwise.streams import Form, Rule, Stream

MOST = 256  # bundles of one form; a chain of n additions has about n * n
TRIED = 16  # sets of hyperedges to add to, where levels are several groups apart
SLACK = 1e-6  # of limits: costs are integers, or measured


@dataclass(frozen=True, slots=True, eq=False)
class Addition:
    """Positions of hyperedges to keep besides. rank: importance per price, higher first."""

    rank: float
    on: dict[int, list[int]]


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """What the next level of a hyperedge takes: groups, and cost per group (rows,)."""

    groups: int
    cost: FloatArray


def ahead(ascent: Ascent, state: State, e: int) -> Ahead:
    """The step to the next level; groups 0 where there is none."""
    n, levels = state.counts[e], ascent.levels(state, e)
    above = levels[levels > n][:1]
    if not len(above):
        return Ahead(0, np.zeros(len(state.limits)))
    groups = int(above[0]) - n
    return Ahead(groups, (state.meter.along(e, above)[:, 0] - state.meter.values) / groups)


class EdgeAdditions:
    """Additions to a hyperedge that no join knows."""

    def __init__(self, ascent: Ascent, edge: int) -> None:
        self.edges = (edge,)
        self._ascent = ascent

    def best(self, state: State, prices: FloatArray, number: int) -> list[Addition]:
        """Up to so many additions that fit and help, best first: groups, or all to a level."""
        (e,) = self.edges
        step = ahead(self._ascent, state, e)
        paid = step.groups * step.cost
        if not step.groups or (state.meter.values + paid > state.limits + SLACK).any():
            return []
        pool = np.flatnonzero(~state.x[e])
        order = pool[np.argsort(-state.gains[e][pool], kind="stable")]
        lots = [order[k : k + 1] for k in range(number)] if step.groups == 1 else [order]
        chosen = [lot[: step.groups] for lot in lots if len(lot)]
        worth = np.array([float(state.gains[e][lot].sum()) for lot in chosen])
        ranks = _ranks(worth, np.full(len(worth), prices @ paid))
        return [
            Addition(rank, {e: lot.tolist()})
            for rank, own, lot in zip(ranks.tolist(), worth.tolist(), chosen, strict=True)
            if own > 0
        ]


class StreamAdditions:
    """Additions to the components of a stream: what is read, and from where it comes.

    A written channel brings the channel that it is read as. A channel that is read needs to come
    from somewhere: from what is written at this addition, or at one before it, with all channels
    in between; or for free from a channel that is already kept there. Every way is a bundle.
    """

    def __init__(self, ascent: Ascent, stream: Stream) -> None:
        self.edges = stream.edges
        self._ascent = ascent
        self._parts = [_Part(form, stream.edges) for form in stream.forms]

    def best(self, state: State, prices: FloatArray, number: int) -> list[Addition]:
        """Up to so many bundles that fit and help, best first, each of another component; or one
        of as many components as the levels need.
        """
        found: list[Addition] = []
        steps = {e: ahead(self._ascent, state, e) for e in self.edges}
        groups = np.array([steps[e].groups for e in self.edges])
        for part in self._parts:
            part.weigh(state, prices, steps)
        for _ in range(TRIED + number):
            part = max(self._parts, key=_Part.highest)  # the first of equals
            rank = part.highest()
            if rank == -np.inf or len(found) == number:
                break
            at = divmod(int(part.ranks.argmax()), part.ranks.shape[1])
            edges = part.edges_at(*at)
            wanted = set(groups[edges > 0].tolist())
            if wanted == {1} and edges.max() == 1:
                found.append(Addition(rank, {e: [place] for e, place in part.places_at(*at)}))
                part.ranks[at[0]] = -np.inf
                continue
            on = self._members(edges, wanted.pop()) if len(wanted) == 1 else {}
            if on:
                return [*found, Addition(rank, on)]
            for other in self._parts:
                other.ranks[other.alike(edges)] = -np.inf
        return found

    def _members(self, edges: IntArray, number: int) -> dict[int, list[int]]:
        """Positions of the best components that add to just these hyperedges; none if too few."""
        found: list[tuple[float, int, int, int]] = []
        for k, part in enumerate(self._parts):
            worth = np.where(part.alike(edges) & (part.ranks > -np.inf), part.worth, -np.inf)
            best = worth.argmax(axis=1)
            top = worth[np.arange(len(worth)), best]
            able = np.flatnonzero(top > -np.inf)
            found += [(-float(top[c]), k, c, int(best[c])) for c in able.tolist()]
        if not 0 < number <= len(found) or edges.max() > 1:
            return {}
        on: dict[int, list[int]] = {}
        for _, k, component, bundle in sorted(found)[:number]:
            for e, place in self._parts[k].places_at(component, bundle):
                on.setdefault(e, []).append(place)
        return on


class _Part:
    """The components of one form with all their bundles. worth, ranks: (components, bundles)."""

    def __init__(self, form: Form, edges: tuple[int, ...]) -> None:
        self._form = form
        self._bundles = bundles(form.rules, len(form.edges))
        self._edge = np.array([[e == own for e in edges] for own in form.edges], np.int64)
        shape = len(form.places), len(self._bundles)
        self._x = np.zeros((0, 0), bool)
        self._valid = np.zeros(shape, bool)
        self.worth: FloatArray = np.zeros(shape)
        self.ranks: FloatArray = np.zeros(shape)

    def weigh(self, state: State, prices: FloatArray, steps: Mapping[int, Ahead]) -> None:
        """Importance and rank of every bundle now; -inf where it is none, or does not fit."""
        form, chosen = self._form, self._bundles.T.astype(np.float64)
        self._refresh(state)
        off = (~self._x).astype(np.float64)
        gains = [state.gains[e][form.places[:, v]] for v, e in enumerate(form.edges)]
        self.worth = (np.stack(gains, axis=1) * off) @ chosen
        groups = np.array([steps[e].groups for e in form.edges])
        usable = self._valid & (self.worth > 0)
        cost = np.zeros_like(self.worth)
        for r, (price, at_most) in enumerate(zip(prices, state.limits, strict=True)):
            each = np.array([steps[e].cost[r] for e in form.edges])
            paid = (off * each * groups) @ chosen
            usable &= state.meter.values[r] + paid <= at_most + SLACK
            cost += price * ((off * each) @ chosen)
        self.ranks = np.where(usable, _ranks(self.worth, cost), -np.inf)

    def highest(self) -> float:
        """The best rank."""
        return float(self.ranks.max(initial=-np.inf))

    def edges_at(self, component: int, bundle: int) -> IntArray:
        """(hyperedges,) how many groups of each a bundle adds."""
        return np.asarray((self._bundles[bundle] & ~self._x[component]) @ self._edge)

    def alike(self, edges: IntArray) -> Mask:
        """(components, bundles) which add just so many groups to each hyperedge."""
        new = self._bundles & ~self._x[:, None, :]
        return np.asarray((new @ self._edge == edges).all(axis=2))

    def places_at(self, component: int, bundle: int) -> Iterator[tuple[int, int]]:
        """The groups that a bundle adds: (hyperedge, position)."""
        new = self._bundles[bundle] & ~self._x[component]
        for v in np.flatnonzero(new).tolist():
            yield self._form.edges[v], int(self._form.places[component, v])

    def _refresh(self, state: State) -> None:
        """Which bundles keep the joins, for the components that changed."""
        form = self._form
        x = np.stack([state.x[e][form.places[:, v]] for v, e in enumerate(form.edges)], axis=1)
        fresh = len(self._x) != len(x)
        changed = np.arange(len(x)) if fresh else np.flatnonzero((x != self._x).any(axis=1))
        self._x = x
        after = x[changed][:, None, :] | self._bundles
        valid = (after != x[changed][:, None, :]).any(axis=2)
        for kind, (first, *rest) in form.rules:
            if first >= 0:  # what always has to come from somewhere does so already
                holds = after[:, :, rest]
                valid &= ~after[:, :, first] | (holds.any(2) if kind == "any" else holds.all(2))
        self._valid[changed] = valid


def bundles(rules: Sequence[Rule], variables: int) -> Mask:
    """(bundles, variables) the ways to add a variable, those of fewest steps first."""
    found: dict[frozenset[int], None] = {}
    queue = deque(_read(frozenset([v]), rules) for v in range(variables))
    while queue and len(found) < max(MOST, variables):
        own = queue.popleft()
        if own in found:
            continue
        found[own] = None
        for kind, (result, *parts) in rules:
            if kind == "any" and result in own and not own.intersection(parts):
                queue.extend(_read(own | {part}, rules) for part in parts)
    out = np.zeros((len(found), variables), bool)
    for row, own in enumerate(found):
        out[row, sorted(own)] = True
    return out


def _read(own: frozenset[int], rules: Sequence[Rule]) -> frozenset[int]:
    """With the channels that have to be read because these are written."""
    while True:
        more = own | {groups[1] for kind, groups in rules if kind == "reads" and groups[0] in own}
        if more == own:
            return own
        own = more


def _ranks(worth: FloatArray, cost: FloatArray) -> FloatArray:
    free = cost <= 0
    return np.where(free, np.inf, worth / np.where(free, 1.0, cost))

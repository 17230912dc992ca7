"""The published greedy's first choice: the least of every activation, chosen by block ascent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prunec.compiler.hypergraph import KEPT
from prunec.compiler.pairwise import PairwiseProblem
from prunec.compiler.problem import IntArray
from prunec.passes.pairwise.ascent import Ascent
from prunec.passes.pairwise.state import State

DEAR = 1e3  # times the importance of everything: nothing is worth keeping above its minimum
DIVIDE = 3  # activations this far apart in a chain don't meet in a weight
SWEEPS = 100  # the published rule has no limit, but it has no weights within an activation either


@dataclass(frozen=True, slots=True, eq=False)
class _Activation:
    """Hyperedges that hold the same channels at first. places: (channels, hyperedges) positions."""

    edges: tuple[int, ...]
    places: IntArray


def load_smallest(ascent: Ascent, state: State) -> bool:
    """Load the smallest choice; False where none was found that is valid.

    What a node writes into a stream and what is read there are the same channels, which is always
    valid in a chain of additions. Elsewhere, and where the limits do not hold, the least of every
    hyperedge at prices that nothing is worth.
    """
    problem = ascent.problem
    activations = _activations(problem)
    if activations is not None:
        state.load([np.zeros(n, bool) for n in problem.sizes])
        for own in activations:
            _choose(state, own, np.arange(_least(problem, own)))
        _iterate(state, activations)
        if state.fits() and not problem.faults(state.mask()):
            return True
    state.load([np.ones(n, bool) for n in problem.sizes])
    ascent.climb(state, DEAR * state.value() / np.maximum(state.limits, 1.0))
    return state.fits() and not problem.faults(state.mask())


def _activations(problem: PairwiseProblem) -> list[_Activation] | None:
    """The hyperedges, those that a join writes and its result as one; None if they don't match."""
    firsts = problem.firsts
    edge_of = np.repeat(np.arange(len(problem.sizes)), problem.sizes)
    parent = list(range(firsts[-1]))

    def root(g: int) -> int:
        while parent[g] != g:
            parent[g] = parent[parent[g]]
            g = parent[g]
        return g

    for join in problem.joins:
        for part, owned in zip(join.parts, join.owned, strict=True):
            for a, b in zip(part.tolist(), join.out.tolist(), strict=True):
                if owned and KEPT not in (a, b):
                    low, high = sorted((root(a), root(b)))
                    parent[high] = low
    channels: dict[int, list[int]] = {}
    for g in range(firsts[-1]):
        channels.setdefault(root(g), []).append(g)
    by_edges: dict[tuple[int, ...], list[list[int]]] = {}
    for groups in channels.values():
        by_edges.setdefault(tuple(edge_of[groups].tolist()), []).append(groups)
    seen = [e for edges in by_edges for e in edges]
    if len(seen) != len(set(seen)):
        return None
    return [
        _Activation(edges, np.array(groups, np.int64) - np.array(firsts)[list(edges)])
        for edges, groups in sorted(by_edges.items())
    ]


def _least(problem: PairwiseProblem, activation: _Activation) -> int:
    """Channels of the smallest level that keeps something."""
    return max(int(np.append(own[own > 0], 0)[0]) for own in _levels(problem, activation))


def _levels(problem: PairwiseProblem, activation: _Activation) -> list[IntArray]:
    return [problem.levels[e] for e in activation.edges]


def _iterate(state: State, activations: list[_Activation]) -> None:
    """Of every third activation, then the next ones, the channels that meet the most importance."""
    value = state.value()
    for _ in range(SWEEPS):
        before, masks = value, state.copy()
        for left in range(DIVIDE):
            for own in activations[left::DIVIDE]:
                scores = np.sum(
                    [state.gains[e][own.places[:, v]] for v, e in enumerate(own.edges)], axis=0
                )
                order = np.argsort(-scores, kind="stable")
                _choose(state, own, order[: state.counts[own.edges[0]]])
        value = state.value()
        if value <= before * (1 + 1e-12):
            if value < before:  # weights within an activation
                state.load(masks)
            return


def _choose(state: State, activation: _Activation, channels: IntArray) -> None:
    for v, e in enumerate(activation.edges):
        mask = np.zeros(len(state.x[e]), bool)
        mask[activation.places[channels, v]] = True
        state.change(e, mask)

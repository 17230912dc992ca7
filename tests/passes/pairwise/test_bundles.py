"""Bundles of channels that keep the joins, and the smallest choice that they are added to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pairwise_instances import KINDS, block, drawn, one

from prunec.compiler.cost import Polynomial
from prunec.compiler.hypergraph import KEPT, Join
from prunec.compiler.pairwise import PairwiseProblem
from prunec.compiler.problem import Limit
from prunec.passes.pairwise.ascent import Ascent
from prunec.passes.pairwise.bundles import bundles
from prunec.passes.pairwise.greedy import Greedy
from prunec.passes.pairwise.smallest import load_smallest
from prunec.passes.pairwise.state import State

# A chain of two additions: v1 <= u1 + v0, v2 <= u2 + v1.
V0, U1, V1, U2, V2 = range(5)
CHAIN = [
    ("any", (V1, U1, V0)),
    ("reads", (U1, V1)),
    ("any", (V2, U2, V1)),
    ("reads", (U2, V2)),
]


def sets(rules: list[tuple[str, tuple[int, ...]]], variables: int) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(row).tolist()) for row in bundles(rules, variables)}


def test_a_channel_that_is_read_comes_from_here_or_from_up_the_chain() -> None:
    assert sets(CHAIN, 5) == {
        frozenset(own)
        for own in (
            {V0}, {V1}, {V2},  # for free, where the channel is there already
            {U1, V1}, {V0, V1}, {U2, V2}, {V1, V2}, {U1, V1, V2}, {V0, V1, V2},
        )
    }  # fmt: skip


def test_a_join_of_two_writers_offers_both() -> None:
    rules = [("any", (2, 0, 1)), ("reads", (0, 2)), ("reads", (1, 2))]
    assert sets(rules, 3) == {frozenset(own) for own in ({2}, {0, 2}, {1, 2})}


def test_long_chains_have_a_limited_number_of_bundles() -> None:
    rules = []
    for t in range(1, 60):
        rules += [("any", (2 * t, 2 * t - 1, 2 * t - 2)), ("reads", (2 * t - 1, 2 * t))]
    found = bundles(rules, 119)
    assert found.shape == (256, 119)
    assert found.any(axis=0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_choice_is_valid_and_keeps_branches_where_it_can(kind: str) -> None:
    problem = drawn(kind, 0, 0.9)
    state = State(problem)
    assert load_smallest(Ascent(problem), state)
    assert problem.faults(state.mask()) == []
    assert all(state.counts)


def aligned_stream(limit: int) -> PairwiseProblem:
    """u (0) and the passed-on s (1) give v (2), eight channels each, in twos; 3 reads them."""
    rng = np.random.default_rng(4)
    sizes = [8, 8, 8, 3]
    u, s, v = (np.arange(first, first + 8) for first in (0, 8, 16))
    flops = Polynomial.of([(3, (one(0), one(3))), (2, (one(1), one(3))), (4, (one(2), one(3)))])
    return PairwiseProblem(
        names=("u", "s", "v", "w"),
        linear=np.zeros(27),
        blocks=tuple(block(rng, sizes, e, 3) for e in range(3)),
        levels=(*[np.arange(2, 9, 2)] * 3, np.array([3])),
        costs={"flops": flops},
        limits=(Limit("flops", limit),),
        joins=(Join("add", v, (u, s), (True, False)),),
    )


@pytest.mark.parametrize("limit", [80, 100, 140, 180])
def test_streams_grow_by_whole_levels(limit: int) -> None:
    problem = aligned_stream(limit)
    found = Greedy(bound=False)(problem, None)
    assert problem.faults(found.mask) == []
    assert sum(problem.counts(found.mask)) > 6 + 3  # more than the smallest choice


def test_levels_are_filled_across_padded_and_other_channels() -> None:
    """The last four of v come from u alone; the four that are left of v lie on both sides."""
    problem = aligned_stream(192)
    (join,) = problem.joins
    padded = (
        Join("add", join.out[:4], (join.parts[0][:4], join.parts[1][:4]), (True, False)),
        Join("padded", join.out[4:], (join.parts[0][4:],), (True,)),
    )
    fours = (np.array([4, 8]), np.array([8]), np.array([4, 8]), np.array([3]))
    free = replace(problem, joins=padded, levels=fours, limits=(Limit("flops", 10**6),))
    assert free.counts(Greedy(bound=False)(free, None).mask) == (8, 8, 8, 3)


def test_a_channel_without_price_is_added() -> None:
    problem = aligned_stream(100)
    free = replace(problem, costs={"flops": Polynomial.of([(3, (one(0), one(3)))])})
    found = Greedy(bound=False)(free, None)
    assert free.counts(found.mask)[1:3] == (8, 8)


def test_a_stream_with_a_kept_operand_needs_no_other() -> None:
    problem = aligned_stream(100)
    never = np.full(8, KEPT)
    (join,) = problem.joins
    problem = replace(
        problem, joins=(Join("add", join.out, (join.parts[0], never), (True, False)),)
    )
    found = Greedy(bound=False)(problem, None)
    assert problem.faults(found.mask) == []

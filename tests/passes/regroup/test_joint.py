"""One order per hyperedge for all weights: brute force, planted blocks, what cannot move."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
import pytest

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import KEPT
from prunec.compiler.partition import Partition
from prunec.passes.regroup.blocks import kept
from prunec.passes.regroup.doubled import swap_gains
from prunec.passes.regroup.joint import Joint, ascend, neighbours
from prunec.passes.regroup.orders import Orders, places_of
from prunec.passes.regroup.permutations import permutation
from prunec.passes.regroup.scored import Scored, free, scored_sites
from prunec.passes.regroup.sites import Site

Edges = Sequence[int]  # sizes


def groups_of(sizes: Edges, *edges: int) -> np.ndarray:
    """The channel groups of hyperedges one behind the other; -n stands for n frozen channels."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    parts = [np.full(-e, KEPT) if e < 0 else np.arange(starts[e], starts[e + 1]) for e in edges]
    return np.concatenate(parts).astype(np.int64)


def scored(
    sizes: Edges, *layers: tuple[tuple[int, ...], tuple[int, ...], int], seed: int = 0
) -> list[Scored]:
    """Random weights: (hyperedges of the outputs, of the inputs, groups)."""
    draw = np.random.default_rng(seed)
    out = []
    for k, (outputs, inputs, count) in enumerate(layers):
        rows, columns = groups_of(sizes, *outputs), groups_of(sizes, *inputs)
        score = draw.random((len(rows), len(columns)))
        out.append(Scored(f"w{k}", score, rows, columns, count))
    return out


def edges_of(sizes: Edges) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def joint(own: Sequence[Scored], sizes: Edges, rounds: int = 16) -> dict[str, Partition]:
    return Joint(rounds)(own, edges_of(sizes), range(len(sizes)))


def value(own: Sequence[Scored], found: dict[str, Partition]) -> float:
    return sum(s.scale * kept(s.score, found[s.weight]) for s in own)


def laid(own: Scored, order: np.ndarray) -> Partition:
    """Contiguous blocks once each group's contents stand at the place `order` gives them."""
    ids = []
    for groups in (own.outputs, own.inputs):
        place = np.arange(len(groups))
        for p, g in enumerate(groups.tolist()):
            if g != KEPT:
                occurrence = (groups[:p] == g).sum()
                place[p] = np.flatnonzero(groups == order[g])[occurrence]
        ids.append(place // (len(groups) // own.groups))
    return Partition(own.groups, *(tuple(x.tolist()) for x in ids))


def best_of_all(own: Sequence[Scored], sizes: Edges) -> float:
    """Over every order of every hyperedge."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    every = [
        [np.array(p) + start for p in permutations(range(size))]
        for size, start in zip(sizes, starts[:-1], strict=True)
    ]
    return max(
        value(own, {s.weight: laid(s, np.concatenate(orders)) for s in own})
        for orders in product(*every)
    )


CHAIN = [((0,), (-4,), 2), ((1,), (0,), 2), ((-4,), (1,), 2)]
CASES = {
    "chain": ((4, 4), CHAIN),
    "nested numbers of groups": ((4, 4), [((0,), (-4,), 2), ((1,), (0,), 4), ((-4,), (1,), 2)]),
    "concatenation": ((2, 4), [((0,), (-4,), 2), ((1,), (0, -2), 2), ((-6,), (0, 1), 3)]),
    "one hyperedge on both sides": ((6,), [((0,), (0,), 3), ((0,), (-6,), 2)]),
    "twice on one axis": ((4,), [((-4,), (0, 0), 4), ((0,), (-4,), 2)]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(2))
def test_small_networks_reach_the_optimum(name: str, seed: int) -> None:
    sizes, layers = CASES[name]
    own = scored(sizes, *layers, seed=seed)
    assert value(own, joint(own, sizes)) == pytest.approx(best_of_all(own, sizes))


@pytest.mark.parametrize("name", CASES)
def test_what_is_found_is_contiguous_in_one_order(name: str) -> None:
    """Contents of one hyperedge that are in one block everywhere could change places."""
    sizes, layers = CASES[name]
    own = scored(sizes, *layers)
    places = places_of(own, edges_of(sizes), range(len(sizes)))
    orders = Orders(own, places)
    ascend(orders, neighbours(places), range(len(places)))
    order = np.arange(sum(sizes))
    for e, kinds in zip(places, orders.kinds, strict=True):
        groups = own[e.occurrences[0].side[0]]
        axis = (groups.outputs, groups.inputs)[e.occurrences[0].side[1]]
        labels = axis[e.occurrences[0].at[:, 0]]
        by_place, by_content = (np.argsort(k, kind="stable") for k in (e.kind, kinds))
        order[labels[by_content]] = labels[by_place]
    for s, weight in enumerate(own):
        ids = tuple(tuple(side.tolist()) for side in orders.ids[s])
        expected = laid(weight, order)
        assert ids == (expected.outputs, expected.inputs)


def test_planted_streams_are_found_through_a_long_chain() -> None:
    sizes = (24, 32, 16, 24, 32)
    layers = [((e + 1,), (e,), 4) for e in range(4)]
    own, draw = scored(sizes, *layers), np.random.default_rng(5)
    streams = [draw.permutation(np.arange(n) % 4) for n in sizes]
    inside = [streams[k + 1][:, None] == streams[k] for k in range(4)]
    planted = [
        Scored(s.weight, s.score + 3 * hit, s.outputs, s.inputs, 4)
        for s, hit in zip(own, inside, strict=True)
    ]
    whole = sum(s.scale * float(s.score[hit].sum()) for s, hit in zip(planted, inside, strict=True))
    assert value(planted, joint(planted, sizes)) == pytest.approx(whole)


def test_joint_is_between_the_natural_order_and_free() -> None:
    sizes = (16, 16, 16)
    layers = [((0,), (-8,), 4), ((1,), (0,), 4), ((2,), (1,), 4), ((0,), (2,), 4)]
    own = scored(sizes, *layers)
    natural = {s.weight: permutation("same")(s.score, 4) for s in own}
    assert (
        value(own, natural)
        < value(own, joint(own, sizes))
        < value(own, free(own, permutation("search")))
    )


def test_restarts_lose_nothing_and_repeat() -> None:
    sizes = (16, 16, 16, 16)
    layers = [((b,), (a,), 4) for a, b in ((0, 1), (1, 2), (2, 3), (3, 0), (2, 0))]
    own = scored(sizes, *layers)
    none, some = (value(own, joint(own, sizes, n)) for n in (0, 16))
    assert some > none
    assert joint(own, sizes) == joint(own, sizes)


def test_what_cannot_move_stays_in_contiguous_blocks() -> None:
    own = scored((8,), ((0,), (-6,), 2))
    found = joint(own, (8,))["w0"]
    assert found.inputs == (0, 0, 0, 1, 1, 1)
    fixed = Joint()(own, edges_of((8,)), ())["w0"]
    assert fixed.outputs == (0, 0, 0, 0, 1, 1, 1, 1)


def test_a_weight_of_more_worth_decides() -> None:
    light, heavy = scored((8,), ((0,), (-4,), 2), ((0,), (-4,), 2))
    for first, second in ((light, heavy), (heavy, light)):
        dear = Scored("dear", first.score, first.outputs, first.inputs, 2, worth=1e4)
        found = joint([dear, second], (8,))
        alone = joint([dear], (8,))
        assert kept(dear.score, found["dear"]) == pytest.approx(kept(dear.score, alone["dear"]))


def test_gains_are_what_a_change_adds() -> None:
    sizes = (8, 8)
    own = scored(sizes, ((0,), (-4,), 2), ((1,), (0,), 4), ((-8,), (1, 0), 2))
    orders = Orders(own, places_of(own, edges_of(sizes), (0, 1)))
    kinds = np.roll(orders.kinds[0], 3)
    gains, before = orders.gains(0), orders.value()
    row = np.arange(8)
    expected = (gains[row, kinds] - gains[row, orders.kinds[0]]).sum()
    orders.put(0, kinds)
    assert orders.value() - before == pytest.approx(expected)
    anew = Orders(own, orders.places)
    anew.put(0, kinds)
    for sums, fresh in zip(orders.sums, anew.sums, strict=True):
        for side in range(2):
            np.testing.assert_allclose(sums[side], fresh[side], atol=1e-12)


@pytest.mark.parametrize("name", ["one hyperedge on both sides", "both sides, with others between"])
def test_exchanges_on_both_sides_gain_what_they_say(name: str) -> None:
    cases = {**CASES, "both sides, with others between": ((6, 3), [((0, 1), (1, 0, 0), 3)])}
    sizes, layers = cases[name]
    own = scored(sizes, *layers)
    orders = Orders(own, places_of(own, edges_of(sizes), range(len(sizes))))
    orders.put(0, np.roll(orders.kinds[0], 1))
    gains, before, kinds = swap_gains(orders, 0), orders.value(), orders.kinds[0]
    for a, b in product(range(6), range(6)):
        swapped = kinds.copy()
        swapped[[a, b]] = kinds[[b, a]]
        orders.put(0, swapped)
        assert orders.value() - before == pytest.approx(gains[a, b], abs=1e-12)
        orders.put(0, kinds)


def test_sites_without_groups_are_left_out_and_bad_numbers_refused() -> None:
    groups = groups_of((6, 4), 0), groups_of((6, 4), 1)
    site = Site("w", ("conv",), (6, 4, 3, 3), *groups, 1, 1)
    scores = {"w": np.ones((6, 4))}
    assert scored_sites([site], scores, {}) == ()
    (own,) = scored_sites([site], scores, {"w": 2}, {"w": 3.0})
    assert own.worth == 3.0
    assert own.scale == pytest.approx(3.0 / 24)
    with pytest.raises(UsageError, match="no 4 equal groups"):
        scored_sites([site], scores, {"w": 4})


def test_a_weight_of_zeros_has_blocks_too() -> None:
    own = Scored("w", np.zeros((4, 4)), groups_of((4,), 0), groups_of((4,), -4), 2)
    assert joint([own], (4,))["w"].groups == 2


def residual(sizes: Edges = (16, 8, 8, 8)) -> list[Scored]:
    """A stream, hyperedge 0, that three branches read and write."""
    inner = [((k,), (0,), 2) for k in (1, 2, 3)], [((0,), (k,), 2) for k in (1, 2, 3)]
    return scored(sizes, *inner[0], *inner[1])


def test_own_inputs_keep_more_with_every_gather() -> None:
    sizes = (16, 8, 8, 8)
    own = residual(sizes)
    values = [
        value(own, Joint(gathers=n)(own, edges_of(sizes), range(len(sizes)))) for n in range(4)
    ]
    assert values == sorted(values)
    assert len(set(values)) == 4
    assert values[-1] < value(own, free(own, permutation("search")))
    assert joint(own, sizes) == Joint(gathers=0)(own, edges_of(sizes), range(len(sizes)))


def test_a_gather_that_gains_nothing_is_not_spent() -> None:
    """Nothing else shares the order of what the last weight reads."""
    own = scored((8,), ((0,), (-4,), 2))
    only = [Scored("w", own[0].score.T, groups_of((8,), -4), groups_of((8,), 0), 2)]
    assert Joint(gathers=5)(only, edges_of((8,)), (0,)) == joint(only, (8,))


def test_channels_that_cannot_move_may_stand_behind_a_gather() -> None:
    own = scored((8,), ((0,), (-6,), 2))
    free_inputs = Joint(gathers=1)(own, edges_of((8,)), range(1))
    best = kept(own[0].score, permutation("search")(own[0].score, 2))
    assert kept(own[0].score, free_inputs["w0"]) == pytest.approx(best)


def test_a_negative_number_of_gathers_is_refused() -> None:
    with pytest.raises(UsageError, match="gathers must not be below 0"):
        Joint(gathers=-1)

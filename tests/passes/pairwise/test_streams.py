from __future__ import annotations

import itertools

import numpy as np
import pytest
from pairwise_instances import drawn

from prunec.passes.pairwise.streams import NEVER, streams


def joined(kind: str, seed: int):
    """The stream, random gains, and the best and worst valid totals by trying all masks."""
    problem = drawn(kind, 0, 9.0)
    (stream,) = streams(problem)
    rng = np.random.default_rng(seed)
    gains = {e: rng.normal(size=problem.sizes[e]) for e in stream.edges}
    return problem, stream, gains


def valid(problem):
    for bits in itertools.product((0, 1), repeat=len(problem.linear)):
        mask = np.array(bits, bool)
        if not [fault for fault in problem.faults(mask) if "level" not in fault]:
            yield mask


def total(problem, gains, mask) -> float:
    firsts = problem.firsts
    return sum(float(g[mask[firsts[e] : firsts[e + 1]]].sum()) for e, g in gains.items())


@pytest.mark.parametrize("kind", ["stream", "tree"])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_channels_of_a_stream(kind: str, seed: int) -> None:
    problem, stream, gains = joined(kind, seed)
    best = max(total(problem, gains, mask) for mask in valid(problem))
    masks = stream.best(gains, problem.sizes, {})
    got = sum(float(gains[e][masks[e]].sum()) for e in stream.edges)
    assert got == pytest.approx(best)


@pytest.mark.parametrize("kind", ["stream", "tree"])
def test_differences_are_those_of_keeping_one_channel_or_not(kind: str) -> None:
    problem, stream, gains = joined(kind, 5)
    edge = stream.edges[1]
    first = problem.firsts[edge]
    found = stream.differences(gains, edge, {})
    for j in range(problem.sizes[edge]):
        kept, gone = (
            max(
                (total(problem, gains, m) for m in valid(problem) if m[first + j] == on),
                default=NEVER,
            )
            for on in (True, False)
        )
        if min(kept, gone) > NEVER:
            assert found[j] == pytest.approx(kept - gone)
        else:
            assert abs(found[j]) > -NEVER / 2


def test_hyperedges_without_joins_are_no_streams() -> None:
    assert streams(drawn("chain", 0)) == ()

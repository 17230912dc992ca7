"""Costs as polynomials in kept counts."""

from __future__ import annotations

from prunec.compiler.cost import Linear, Polynomial


def test_leaving_out_each_hyperedge_is_the_cost_with_its_count_zero() -> None:
    a, b, both = Linear(0, ((0, 1),)), Linear(2, ((1, 3),)), Linear(1, ((0, 1), (1, 1)))
    cost = Polynomial.of([(9, (a, b)), (2, (both, both)), (0.25, (a,)), (7, ())])
    counts = [5, 4, 3]
    apart = [[0, 4, 3], [5, 0, 3], [5, 4, 0]]
    assert cost.without_each(counts) == tuple(cost(c) for c in apart)

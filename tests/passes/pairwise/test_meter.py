from __future__ import annotations

import numpy as np
import pytest
from pairwise_instances import KINDS, drawn

from prunec.passes.pairwise.meter import Meter


@pytest.mark.parametrize("kind", KINDS)
def test_costs_are_those_of_the_rows_wherever_the_counts_go(kind: str) -> None:
    problem = drawn(kind, 3)
    rows = [row for row, _ in problem.rows]
    counts = list(problem.sizes)
    meter = Meter(rows, counts)
    rng = np.random.default_rng(0)
    for _ in range(30):
        e = int(rng.integers(len(counts)))
        ks = np.arange(problem.sizes[e] + 1)
        along = meter.along(e, ks)
        for k in ks:
            there = [int(k) if f == e else n for f, n in enumerate(counts)]
            exact = [_exact(row, there) for row in rows]
            assert along[:, k] == pytest.approx(exact)
        counts[e] = int(rng.choice(ks))
        meter.set(e, counts[e])
        assert meter.values == pytest.approx([_exact(row, counts) for row in rows])


def _exact(row: object, counts: list[int]) -> float:
    parts = [*row.terms, *row.tables]  # a row itself rounds up
    return sum(part(counts) for part in parts)

"""Tables over what a choice can be: each choice finds its own cost in exactly one cell."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from instances import drawn_table, general

from prunec.compiler.cost import Linear, Table
from prunec.compiler.errors import SolverError
from prunec.passes.solvers import cells
from prunec.passes.solvers.cells import Levels, Runs, cells_of
from prunec.passes.solvers.grids import over_levels, reachable, scope_of

LEVELS = [np.arange(1, 9), np.array([2, 4, 8]), np.array([5])]


def stairs(*factors: Linear) -> Table:
    points = np.array([1, 4, 5, 8, 9, 20])
    one = np.array([1.0, 1.0, 2.0, 2.0, 1.5, 1.5])
    values = one if len(factors) == 1 else np.multiply.outer(one, one)
    return Table(factors, (points,) * len(factors), values)


@pytest.mark.parametrize("seed", range(60))
def test_every_choice_has_its_cost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = general(seed).levels
    table = drawn_table(rng, len(levels))
    found, scope = cells_of(table, levels), scope_of(table, levels)
    direct = over_levels(table, scope, levels)
    for at in itertools.product(*(range(len(level)) for level in levels)):
        counts = [int(level[k]) for level, k in zip(levels, at, strict=True)]
        cell = []
        for axis in found.axes:
            if isinstance(axis, Levels):
                cell.append(axis.groups[at[axis.edge]])
            else:
                size = axis.factor(counts)
                (position,) = np.flatnonzero((axis.lows <= size) & (size <= axis.highs))
                cell.append(position)
        assert found.values[tuple(cell)] == pytest.approx(table(counts))
        assert direct[tuple(at[e] for e in scope)] == pytest.approx(table(counts))


def test_levels_of_equal_cost_are_one_cell() -> None:
    found = cells_of(stairs(Linear(0, ((0, 1),))), LEVELS)
    assert found.values.tolist() == [1.0, 2.0]
    (axis,) = found.axes
    assert isinstance(axis, Levels)
    assert axis.groups.tolist() == [0] * 4 + [1] * 4


def test_a_sum_has_runs_of_sizes() -> None:
    total = Linear(0, ((0, 1), (1, 1)))
    found = cells_of(stairs(total), LEVELS)
    (axis,) = found.axes
    assert isinstance(axis, Runs)
    assert axis.lows.tolist() == [3, 5, 9]
    assert axis.highs.tolist() == [4, 8, 16]
    assert found.values.tolist() == [1.0, 2.0, 1.5]


def test_factors_of_one_hyperedge_share_an_axis() -> None:
    found = cells_of(stairs(Linear(0, ((0, 1),)), Linear(1, ((0, 2), (2, 1)))), LEVELS)
    assert len(found.axes) == 1


def test_a_table_without_choice_is_a_number() -> None:
    found = cells_of(stairs(Linear(0, ((2, 1),))), LEVELS)
    assert (found.axes, float(found.values)) == ((), 2.0)


def test_sizes_that_a_sum_can_reach() -> None:
    assert reachable(Linear(1, ((1, 2), (2, 1))), LEVELS).tolist() == [10, 14, 22]


def test_a_huge_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "MOST", 7)
    with pytest.raises(SolverError, match="8 cells, too many for the MILP"):
        cells_of(stairs(Linear(0, ((0, 1),))), LEVELS)

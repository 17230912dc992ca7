"""The selection problem as a mixed-integer linear program in PuLP, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunec.compiler.problem import Problem
from prunec.passes.solvers.statement import LIMIT_SCALE, Builder

if TYPE_CHECKING:
    import pulp

INTEGRALITY = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Formulation:
    """A PuLP problem (minimisation of the negated, scaled objective) and its binaries.

    steps[e][k - 1] is ``[n_e >= levels[e][k]]``.
    """

    problem: Problem
    program: pulp.LpProblem
    steps: tuple[tuple[pulp.LpVariable, ...], ...]
    scale: float
    constant: float

    def objective(self, minimised: float) -> float:
        """Objective (or bound) of the selection problem for one of the PuLP problem."""
        return self.constant - self.scale * minimised

    def counts(self, values: Mapping[str, float]) -> tuple[int, ...] | None:
        """The choice that the binaries state; None if they are not integral, or missing."""
        nan = float("nan")
        found = [[values.get(y.name, nan) for y in steps] for steps in self.steps]
        if not all(min(abs(x), abs(x - 1)) <= INTEGRALITY for steps in found for x in steps):
            return None
        return tuple(
            int(level[sum(round(x) for x in steps)])
            for level, steps in zip(self.problem.levels, found, strict=True)
        )

    def prices(self, duals: Mapping[str, float]) -> dict[str, float]:
        """Objective that one more percent of the dense cost buys, from the duals of the limits."""
        prices: dict[str, float] = {}
        dense, row = self.problem.dense(), 0
        for limit in self.problem.limits:
            cost = self.problem.costs[limit.resource]
            total = sum(abs(duals.get(f"limit{row + k}", 0.0)) for k in range(len(cost.rows)))
            row += len(cost.rows)
            percent = 0.01 * cost(dense) / max(1, limit.at_most)
            prices[limit.resource] = total * self.scale * LIMIT_SCALE * percent
        return prices

    def assignment(self, counts: Sequence[int]) -> dict[str, float]:
        """Binaries of a choice, for a warm start; empty if a count is not among the levels."""
        levels = self.problem.levels
        if not all(n in level for level, n in zip(levels, counts, strict=True)):
            return {}
        return {
            y.name: float(n >= at)
            for level, steps, n in zip(levels, self.steps, counts, strict=True)
            for at, y in zip(level[1:], steps, strict=True)
        }


def formulate(problem: Problem, *, ordered: bool = True, margin: float = 0.0) -> Formulation:
    """State the problem.

    ordered: with the rows y_k >= y_{k+1}, which a relaxation can spare where there are no tables.
    margin: how far above the limits is allowed, relative. Raises SolverError if the tables have
    more than CELLS cells.
    """
    builder = Builder(problem, margin)
    scale, constant = builder.build(ordered)
    return Formulation(problem, builder.program, builder.steps, scale, constant)

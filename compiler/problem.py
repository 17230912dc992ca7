"""The selection problem, its solution, and what a solver is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.cost import Cost, Row, monotone

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Limit:
    """``cost(resource) <= at_most``, in base units (MACs, elements, bytes)."""

    resource: str
    at_most: int


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """``max sum_e values[e][n_e]  s.t.  costs[r](n) <= limit_r,  n_e in levels[e]``.

    names: hyperedge names. values[e]: (size_e + 1,) float64, ``values[e][k]`` = sum of the k best
    scores, non-decreasing (scores are >= 0), usually concave. levels[e]: allowed kept counts,
    int64, ascending, never empty, the last one is the dense size (a protected hyperedge has only
    that). costs: per limited resource; polynomials are non-decreasing in every n_e, tables need not
    be. together: disjoint sets of hyperedges (indices) that are 0 together or not at all: the
    channels inside a residual branch, whose levels begin with 0.
    """

    names: tuple[str, ...]
    values: tuple[FloatArray, ...]
    levels: tuple[IntArray, ...]
    costs: Mapping[str, Cost]
    limits: tuple[Limit, ...]
    together: tuple[tuple[int, ...], ...] = ()

    @property
    def rows(self) -> tuple[tuple[Row, int], ...]:
        """The limits as single inequalities ``row(n) <= at_most``: a peak has several."""
        return tuple((row, x.at_most) for x in self.limits for row in self.costs[x.resource].rows)

    def objective(self, counts: Sequence[int]) -> float:
        """Value of a choice: the sum of the kept scores."""
        return float(sum(v[n] for v, n in zip(self.values, counts, strict=True)))

    def smallest(self) -> tuple[int, ...]:
        """The lowest levels that go together; the cheapest choice where costs are monotone."""
        counts = [int(level[0]) for level in self.levels]
        for members in self.together:
            if any(counts[e] for e in members):
                for e in members:
                    counts[e] = next((int(n) for n in self.levels[e] if n), 0)
        return tuple(counts)

    def dense(self) -> tuple[int, ...]:
        """The choice with the highest level everywhere."""
        return tuple(int(level[-1]) for level in self.levels)

    def allowed(self, counts: Sequence[int]) -> bool:
        """Whether every count is one of its levels and sets of `together` are not torn."""
        return all(
            bool((level == n).any()) for level, n in zip(self.levels, counts, strict=True)
        ) and all(len({counts[e] > 0 for e in members}) <= 1 for members in self.together)

    def violated(self, counts: Sequence[int]) -> tuple[Limit, ...]:
        """The limits that a choice exceeds, in exact integers."""
        return tuple(x for x in self.limits if self.costs[x.resource](counts) > x.at_most)

    def feasible(self, counts: Sequence[int]) -> bool:
        """Whether a choice is allowed and exceeds no limit."""
        return self.allowed(counts) and not self.violated(counts)

    @property
    def monotone(self) -> bool:
        """Whether no limited cost falls where a count grows: then `smallest` is the cheapest."""
        return all(monotone(self.costs[x.resource]) for x in self.limits)


class Status(Enum):
    """What a solver can say about its answer."""

    OPTIMAL = "optimal"  # gap within the one asked for
    FEASIBLE = "feasible"  # a valid answer, stopped early or a heuristic
    INFEASIBLE = "infeasible"  # no choice meets the limits
    NONE = "none"  # stopped without an answer


@dataclass(frozen=True, slots=True)
class Solution:
    """A choice with its proof. counts is empty unless status is OPTIMAL or FEASIBLE.

    bound: an upper limit on the objective of any choice, or None when none was proven. proof: who
    proved it ("lagrangian", "highs", ...). prices: per limited resource, the objective that one
    more percent of its dense cost would buy, near this choice.
    """

    counts: tuple[int, ...]
    objective: float
    bound: float | None
    status: Status
    solver: str
    proof: str = ""
    prices: Mapping[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float | None:
        """``(bound - objective) / |bound|``, >= 0; None without a bound."""
        return relative_gap(self.objective, self.bound) if self.counts else None


def relative_gap(objective: float, bound: float | None) -> float | None:
    """``(bound - objective) / |bound|``, >= 0; None without a bound."""
    if bound is None:
        return None
    return max(0.0, bound - objective) / max(abs(bound), 1e-12)


class Solver(Protocol):
    """A row of `SOLVERS`: a frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def __call__(self, problem: Problem, start: tuple[int, ...] | None) -> Solution:
        """Solve; `start` is a feasible choice to begin from, if one is known."""
        ...

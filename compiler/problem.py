"""The selection problem, its solution, and what a solver is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.cost import Polynomial

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
    scores, concave and non-decreasing (scores are >= 0). levels[e]: allowed kept counts, int64,
    ascending, never empty, the last one is the dense size (a protected hyperedge has only that).
    costs: a polynomial in n per limited resource, non-decreasing in every n_e.
    """

    names: tuple[str, ...]
    values: tuple[FloatArray, ...]
    levels: tuple[IntArray, ...]
    costs: Mapping[str, Polynomial]
    limits: tuple[Limit, ...]

    def objective(self, counts: Sequence[int]) -> float:
        """Value of a choice: the sum of the kept scores."""
        return float(sum(v[n] for v, n in zip(self.values, counts, strict=True)))

    def smallest(self) -> tuple[int, ...]:
        """The choice with the lowest level everywhere."""
        return tuple(int(level[0]) for level in self.levels)

    def dense(self) -> tuple[int, ...]:
        """The choice with the highest level everywhere."""
        return tuple(int(level[-1]) for level in self.levels)

    def violated(self, counts: Sequence[int]) -> tuple[Limit, ...]:
        """The limits that a choice exceeds, in exact integers."""
        return tuple(x for x in self.limits if self.costs[x.resource](counts) > x.at_most)


class Status(Enum):
    """What a solver can say about its answer."""

    OPTIMAL = "optimal"  # gap within the one asked for
    FEASIBLE = "feasible"  # a valid answer, stopped early or a heuristic
    INFEASIBLE = "infeasible"  # no choice meets the limits
    NONE = "none"  # stopped without an answer


@dataclass(frozen=True, slots=True)
class Solution:
    """A choice with its proof. counts is empty unless status is OPTIMAL or FEASIBLE.

    bound: an upper limit on the objective of any choice, or None when none was proven.
    """

    counts: tuple[int, ...]
    objective: float
    bound: float | None
    status: Status
    solver: str

    @property
    def gap(self) -> float | None:
        """``(bound - objective) / |bound|``, >= 0; None without a bound."""
        if self.bound is None or not self.counts:
            return None
        return max(0.0, self.bound - self.objective) / max(abs(self.bound), 1e-12)


class Solver(Protocol):
    """A row of `SOLVERS`: a frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def __call__(self, problem: Problem, start: tuple[int, ...] | None) -> Solution:
        """Solve; `start` is a feasible choice to begin from, if one is known."""
        ...

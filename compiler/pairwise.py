"""The pairwise selection problem: importance on pairs of channel groups, its solution, solvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.cost import Cost, Row
from prunec.compiler.hypergraph import KEPT, Join
from prunec.compiler.problem import FloatArray, IntArray, Limit, Status, relative_gap

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Importance of the pairs of two hyperedges: ``sum_jk values[j, k] x[rows][j] x[columns][k]``.

    values: (size of rows, size of columns), float32 or float64, >= 0. rows < columns, or they are
    the same; then the diagonal is 0 (what one group is worth alone is linear).
    """

    rows: int
    columns: int
    values: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class PairwiseProblem:
    """``max constant + linear . x + sum of blocks`` over masks x of channel groups.

    Subject to the limits on costs in the kept counts, to n_e in levels[e] for every hyperedge and
    to the joins. names, levels, costs, limits, together: as in `Problem`. linear: (number of
    groups,) float64, >= 0. Groups are numbered through the hyperedges in order; hyperedge e has
    the size ``levels[e][-1]``. Source: the discrete QCQP of AISTATS 2022 (PMLR 151:7915), for any
    graph in place of a chain of layers.
    """

    names: tuple[str, ...]
    linear: FloatArray
    blocks: tuple[Block, ...]
    levels: tuple[IntArray, ...]
    costs: Mapping[str, Cost]
    limits: tuple[Limit, ...]
    joins: tuple[Join, ...] = ()
    together: tuple[tuple[int, ...], ...] = ()
    constant: float = 0.0

    @property
    def rows(self) -> tuple[tuple[Row, int], ...]:
        """The limits as single inequalities ``row(n) <= at_most``."""
        return tuple((row, x.at_most) for x in self.limits for row in self.costs[x.resource].rows)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of groups of every hyperedge."""
        return tuple(int(level[-1]) for level in self.levels)

    @property
    def firsts(self) -> tuple[int, ...]:
        """First group of every hyperedge, and the number of groups at the end."""
        return tuple(accumulate(self.sizes, initial=0))

    def counts(self, mask: Mask) -> tuple[int, ...]:
        """Kept counts of a mask over all groups."""
        firsts = self.firsts
        return tuple(int(mask[a:b].sum()) for a, b in pairwise(firsts))

    def objective(self, mask: Mask) -> float:
        """Importance that a mask keeps, in float64."""
        firsts = self.firsts
        x = [mask[a:b].astype(bool) for a, b in pairwise(firsts)]
        total = self.constant + float(self.linear[mask[: len(self.linear)]].sum())
        for block in self.blocks:
            kept = block.values[x[block.rows]][:, x[block.columns]]
            total += float(kept.sum(dtype=np.float64))
        return total

    def dense(self) -> Mask:
        """Everything kept."""
        return np.ones(self.firsts[-1], bool)

    def violated(self, counts: Sequence[int]) -> tuple[Limit, ...]:
        """The limits that kept counts exceed, in exact integers."""
        return tuple(x for x in self.limits if self.costs[x.resource](counts) > x.at_most)

    def faults(self, mask: Mask) -> list[str]:
        """What a mask breaks, one line each; empty for a valid choice."""
        counts = self.counts(mask)
        out = [f"limit of {limit.resource}" for limit in self.violated(counts)]
        out += [
            f"{name}: {n} is no level"
            for name, n, level in zip(self.names, counts, self.levels, strict=True)
            if n not in level
        ]
        out += [
            f"{self.names[branch[0]]}: only a part of a branch is left"
            for branch in self.together
            if len({counts[e] == 0 for e in branch}) > 1
        ]
        whole = np.append(mask, True)  # index KEPT
        for join in self.joins:
            result = whole[join.out]
            if (result & ~np.any([whole[part] for part in join.parts], axis=0)).any():
                out.append(f"{join.node}: keeps a channel that no operand has")
            for part, owned in zip(join.parts, join.owned, strict=True):
                live = part != KEPT
                if owned and (whole[part] & ~result)[live].any():
                    out.append(f"{join.node}: an operand keeps a channel that the result lacks")
        return out


@dataclass(frozen=True, slots=True, eq=False)
class PairwiseSolution:
    """A mask with its proof; mask is empty unless status is OPTIMAL or FEASIBLE.

    objective, bound, proof, prices: as in `Solution`.
    """

    mask: Mask
    objective: float
    bound: float | None
    status: Status
    solver: str
    proof: str = ""
    prices: Mapping[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float | None:
        """``(bound - objective) / |bound|``, >= 0; None without a bound."""
        return relative_gap(self.objective, self.bound) if len(self.mask) else None


class PairwiseSolver(Protocol):
    """A row of `PAIRWISE_SOLVERS`: a frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def __call__(self, problem: PairwiseProblem, start: Mask | None) -> PairwiseSolution:
        """Solve; `start` is a valid choice to begin from, if one is known."""
        ...

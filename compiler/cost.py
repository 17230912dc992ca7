"""Costs as functions of kept counts: polynomials, tables over grids, and peaks of several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

HAIR = 2.0**-45  # relative; float64 sums of some hundred terms are off by less


class Row(Protocol):
    """What one inequality is made of: a sum of terms and tables."""

    @property
    def terms(self) -> tuple[Term, ...]:
        """The exact part."""
        ...

    @property
    def tables(self) -> tuple[Table, ...]:
        """The measured part."""
        ...

    def __call__(self, counts: Sequence[int]) -> int:
        """Value at these kept counts, rounded up."""
        ...


class Cost(Protocol):
    """A resource. It is within a limit where all its rows are."""

    def __call__(self, counts: Sequence[int]) -> int:
        """Value at these kept counts, the largest of its rows; rounded up."""
        ...

    def without_each(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Value for each hyperedge when it alone has the count 0."""
        ...

    def edges(self) -> frozenset[int]:
        """Indices of the hyperedges that this cost depends on."""
        ...

    @property
    def rows(self) -> tuple[Row, ...]:
        """The sums of which it is the largest."""
        ...


@dataclass(frozen=True, slots=True, order=True)
class Linear:
    """``constant + sum(multiplicity * n[edge])``: the size of one axis after pruning.

    terms: (edge index, multiplicity) pairs, ascending in the edge index.
    """

    constant: int
    terms: tuple[tuple[int, int], ...] = ()

    def __call__(self, counts: Sequence[int]) -> int:
        """Value at these kept counts."""
        return self.constant + sum(m * int(counts[e]) for e, m in self.terms)


@dataclass(frozen=True, slots=True, order=True)
class Term:
    """``scale * product of factors``; constant factors are part of `scale`.

    scale: an integer, or a multiple of 1/4 where elements are smaller than a byte, or any fraction
    where one of the factors is the count of a dial.
    """

    factors: tuple[Linear, ...]
    scale: float

    def __call__(self, counts: Sequence[int]) -> float:
        """Value at these kept counts."""
        return self.scale * prod(factor(counts) for factor in self.factors)


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A resource as a sum of terms; evaluation is exact, a fraction of the sum is rounded up.

    lost: (hyperedge, terms) pairs: what goes besides products with 0 when that hyperedge is 0, the
    norms and biases of a branch that vanishes. A row counts it as if it stayed.

    >>> macs = Polynomial.of([(9, (Linear(3), Linear(0, ((0, 1),))))])
    >>> macs([16])
    432
    """

    terms: tuple[Term, ...]
    lost: tuple[tuple[int, tuple[Term, ...]], ...] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """None: everything is exact."""
        return ()

    @property
    def rows(self) -> tuple[Row, ...]:
        """Itself."""
        return (self,)

    @classmethod
    def of(cls, products: Iterable[tuple[float, Sequence[Linear]]]) -> Polynomial:
        """Sum of ``scale * product of axes``; equal products are merged."""
        merged: dict[tuple[Linear, ...], float] = {}
        for scale, axes in products:
            constant = _whole(scale) * prod(axis.constant for axis in axes if not axis.terms)
            factors = tuple(sorted(axis for axis in axes if axis.terms))
            merged[factors] = merged.get(factors, 0) + constant
        return cls(tuple(Term(f, _whole(s)) for f, s in sorted(merged.items()) if s))

    def __call__(self, counts: Sequence[int]) -> int:
        """Value at these kept counts."""
        lost = (t for e, terms in self.lost if not counts[e] for t in terms)
        return _up(sum(term(counts) for term in self.terms) - sum(t(counts) for t in lost))

    def without_each(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Value for each hyperedge when it alone has the count 0, in one walk over the terms."""
        exact = sum(term(counts) for term in self.terms)
        without = [_up(exact)] * len(counts)
        for e, part in self.parts(counts).items():
            without[e] = _up(exact - part)
        return tuple(without)

    def parts(self, counts: Sequence[int]) -> dict[int, float]:
        """What goes with each hyperedge that this cost depends on when it alone has the count 0."""
        lost: dict[int, float] = {}
        for term in self.terms:
            whole = term(counts)
            for e in sorted({e for factor in term.factors for e, _ in factor.terms}):
                rest = (
                    factor(counts) - sum(m * int(counts[k]) for k, m in factor.terms if k == e)
                    for factor in term.factors
                )
                lost[e] = lost.get(e, 0) + whole - term.scale * prod(rest)
        return lost

    def edges(self) -> frozenset[int]:
        """Indices of the hyperedges that this cost depends on."""
        return frozenset(e for t in self.terms for f in t.factors for e, _ in f.terms)

    def gradient(self, counts: Sequence[int]) -> NDArray[np.float64]:
        """(number of hyperedges,) derivative in each kept count: the cost of one more channel."""
        slopes = np.zeros(len(counts))
        for term in self.terms:
            sizes = [factor(counts) for factor in term.factors]
            for d, factor in enumerate(term.factors):
                rest = term.scale * prod(sizes[:d] + sizes[d + 1 :])
                for e, m in factor.terms:
                    slopes[e] += m * rest
        return slopes


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A cost that was measured: known where its factors have the sizes of a grid.

    factors: sizes of axes. points[d]: sizes of factor d on the grid, ascending, int64. values:
    (len(points[0]), len(points[1]), ...) float64, >= 0, not necessarily monotone. Between the
    points it is linear in every factor; beyond them it has the value of the nearest one, and 0
    where a factor is 0.
    """

    factors: tuple[Linear, ...]
    points: tuple[NDArray[np.int64], ...]
    values: NDArray[np.float64]

    def __call__(self, counts: Sequence[int]) -> float:
        """Value at these kept counts."""
        return float(self.at([np.array([factor(counts)]) for factor in self.factors]).flat[0])

    def at(self, sizes: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Values for all combinations of these sizes of the factors, one array per factor."""
        out = self.values
        for d, (points, wanted) in enumerate(zip(self.points, sizes, strict=True)):
            low = np.clip(np.searchsorted(points, wanted, side="right") - 1, 0, len(points) - 1)
            high = np.minimum(low + 1, len(points) - 1)
            width = np.maximum(points[high] - points[low], 1)
            share = np.clip((wanted - points[low]) / width, 0.0, 1.0)
            shape = [1] * out.ndim
            shape[d] = len(wanted)
            share, there = share.reshape(shape), (wanted > 0).reshape(shape)
            below = np.take(out, low, d)
            # Not a weighted mean: where both ends are equal, so is everything between them.
            out = below + (np.take(out, high, d) - below) * share
            out = np.where(there, out, 0.0)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Tabled:
    """A sum of an exact part and of tables; latency, in nanoseconds, is one."""

    exact: Polynomial
    tables: tuple[Table, ...]

    @property
    def terms(self) -> tuple[Term, ...]:
        """Of the exact part."""
        return self.exact.terms

    @property
    def rows(self) -> tuple[Row, ...]:
        """Itself."""
        return (self,)

    def __call__(self, counts: Sequence[int]) -> int:
        """Value at these kept counts, rounded up."""
        tables = sum(table(counts) for table in self.tables)
        return _up(sum(term(counts) for term in self.terms) + tables)

    def without_each(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Value for each hyperedge when it alone has the count 0."""
        return tuple(
            self([0 if k == e else n for k, n in enumerate(counts)]) for e in range(len(counts))
        )

    def edges(self) -> frozenset[int]:
        """Indices of the hyperedges that this cost depends on."""
        own = (e for t in self.tables for f in t.factors for e, _ in f.terms)
        return self.exact.edges() | frozenset(own)


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest of several sums: memory in use at each of the moments of a run."""

    moments: tuple[Polynomial, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The moments."""
        return self.moments

    def __call__(self, counts: Sequence[int]) -> int:
        """Value at these kept counts."""
        return max((moment(counts) for moment in self.moments), default=0)

    def without_each(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Value for each hyperedge when it alone has the count 0; near-linear in the moments."""
        ranked = sorted(((m(counts), k) for k, m in enumerate(self.moments)), reverse=True)
        touched: dict[int, dict[int, int]] = {}  # hyperedge -> moment -> what is left of that
        for value, k in ranked:
            for e, part in self.moments[k].parts(counts).items():
                touched.setdefault(e, {})[k] = ceil(value - part)
        most = ranked[0][0] if ranked else 0
        without = [most] * len(counts)
        for e, left in touched.items():
            untouched = next((value for value, k in ranked if k not in left), 0)
            without[e] = max(untouched, *left.values())
        return tuple(without)

    def edges(self) -> frozenset[int]:
        """Indices of the hyperedges that this cost depends on."""
        return frozenset(e for moment in self.moments for e in moment.edges())


def monotone(cost: Cost) -> bool:
    """Whether a cost never falls where a kept count grows; tables may."""
    tables = [table.values for row in cost.rows for table in row.tables]
    return not any((np.diff(v, axis=d) < 0).any() for v in tables for d in range(v.ndim))


def frozen_part(cost: Cost, hyperedges: int) -> int:
    """What is left without any of so many hyperedges, norms of branches that would vanish too."""
    kept = replace(cost, lost=()) if isinstance(cost, Polynomial) else cost
    return kept([0] * hyperedges)


def _up(total: float) -> int:
    """Rounded up. A third of a whole times 3 is that whole: a sum of such may be off by a hair."""
    return total if isinstance(total, int) else ceil(total - min(abs(total) * HAIR, 1 / 16))


def _whole(scale: float) -> float:
    """An int where that is the same number: integers are exact at any size."""
    return int(scale) if scale == int(scale) else scale

"""Exact costs as polynomials in kept counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, prod


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

    scale: an integer, or a multiple of 1/4 where elements are smaller than a byte.
    """

    factors: tuple[Linear, ...]
    scale: float

    def __call__(self, counts: Sequence[int]) -> float:
        """Value at these kept counts."""
        return self.scale * prod(factor(counts) for factor in self.factors)


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A resource as a sum of terms; evaluation is exact, a fraction of the sum is rounded up.

    >>> macs = Polynomial.of([(9, (Linear(3), Linear(0, ((0, 1),))))])
    >>> macs([16])
    432
    """

    terms: tuple[Term, ...]

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
        return ceil(sum(term(counts) for term in self.terms))

    def without_each(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Value for each hyperedge when it alone has the count 0, in one walk over the terms."""
        exact = sum(term(counts) for term in self.terms)
        lost: list[float] = [0] * len(counts)
        for term in self.terms:
            whole = term(counts)
            for e in sorted({e for factor in term.factors for e, _ in factor.terms}):
                rest = (
                    factor(counts) - sum(m * int(counts[k]) for k, m in factor.terms if k == e)
                    for factor in term.factors
                )
                lost[e] += whole - term.scale * prod(rest)
        return tuple(ceil(exact - part) for part in lost)

    def edges(self) -> frozenset[int]:
        """Indices of the hyperedges that this cost depends on."""
        return frozenset(e for t in self.terms for f in t.factors for e, _ in f.terms)


def _whole(scale: float) -> float:
    """An int where that is the same number: integers are exact at any size."""
    return int(scale) if scale == int(scale) else scale

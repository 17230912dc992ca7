"""Exact costs as polynomials in kept counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod


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
    """``scale * product of factors``; constant factors are part of `scale`."""

    factors: tuple[Linear, ...]
    scale: int

    def __call__(self, counts: Sequence[int]) -> int:
        """Value at these kept counts."""
        return self.scale * prod(factor(counts) for factor in self.factors)


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A resource as a sum of terms; evaluation is exact in Python integers.

    >>> macs = Polynomial.of([(9, (Linear(3), Linear(0, ((0, 1),))))])
    >>> macs([16])
    432
    """

    terms: tuple[Term, ...]

    @classmethod
    def of(cls, products: Iterable[tuple[int, Sequence[Linear]]]) -> Polynomial:
        """Sum of ``scale * product of axes``; equal products are merged."""
        merged: dict[tuple[Linear, ...], int] = {}
        for scale, axes in products:
            constant = scale * prod(axis.constant for axis in axes if not axis.terms)
            factors = tuple(sorted(axis for axis in axes if axis.terms))
            merged[factors] = merged.get(factors, 0) + constant
        return cls(tuple(Term(f, s) for f, s in sorted(merged.items()) if s))

    def __call__(self, counts: Sequence[int]) -> int:
        """Value at these kept counts."""
        return sum(term(counts) for term in self.terms)

    def edges(self) -> frozenset[int]:
        """Indices of the hyperedges that this cost depends on."""
        return frozenset(e for t in self.terms for f in t.factors for e, _ in f.terms)

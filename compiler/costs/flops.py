"""Multiply-accumulates."""

from __future__ import annotations

from prunec.compiler.cost import Polynomial
from prunec.compiler.costs.ledger import Ledger


def flops(ledger: Ledger) -> Polynomial:
    """One multiply-accumulate = 1, at the bound input shape; bias, norms and pools are free.

    Both branches of an If count, unless its condition is a constant: nobody knows which one runs.
    The body of a Loop or Scan counts once an iteration; once where data decides how many there are.
    """
    return Polynomial.of(ledger.multiplications)

"""Multiply-accumulates."""

from __future__ import annotations

from prunec.compiler.cost import Polynomial
from prunec.compiler.costs.ledger import Ledger


def flops(ledger: Ledger) -> Polynomial:
    """One multiply-accumulate = 1, at the bound input shape; bias, norms and pools are free."""
    return Polynomial.of(ledger.multiplications)

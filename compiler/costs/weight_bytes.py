"""Bytes of weights."""

from __future__ import annotations

from prunec.compiler.cost import Polynomial
from prunec.compiler.costs.ledger import Ledger


def weight_bytes(ledger: Ledger) -> Polynomial:
    """Items of all parameters times their size; 4 bits are half a byte, the sum is rounded up."""
    return Polynomial.of((tensor.itemsize, tensor.shape) for tensor in ledger.parameters)

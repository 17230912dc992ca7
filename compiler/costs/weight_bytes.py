"""Bytes of float weights."""

from __future__ import annotations

from prunec.compiler.cost import Polynomial
from prunec.compiler.costs.ledger import Ledger


def weight_bytes(ledger: Ledger) -> Polynomial:
    """Elements of all parameters times their element size."""
    return Polynomial.of((int(tensor.itemsize), tensor.shape) for tensor in ledger.parameters)

"""Elements of float weights."""

from __future__ import annotations

from prunec.compiler.cost import Polynomial
from prunec.compiler.costs.ledger import Ledger


def params(ledger: Ledger) -> Polynomial:
    """Elements of all parameters; running statistics and bounds of ops are none."""
    return Polynomial.of((1, tensor.shape) for tensor in ledger.parameters)

"""Elements of weights."""

from __future__ import annotations

from prunec.compiler.cost import Polynomial
from prunec.compiler.costs.ledger import Ledger


def params(ledger: Ledger) -> Polynomial:
    """Elements of all parameters, quantised ones included.

    Running statistics, bounds of ops, scales and zero points are none.
    """
    return Polynomial.of((tensor.packing, tensor.shape) for tensor in ledger.parameters)

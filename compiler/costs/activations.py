"""Elements that a run computes."""

from __future__ import annotations

from prunec.compiler.cost import Polynomial
from prunec.compiler.costs.ledger import Ledger


def activations(ledger: Ledger) -> Polynomial:
    """Sum of the elements of all values that nodes compute from the graph's inputs.

    Every output of every node counts, norms and activation functions included, at the bound input
    shape. Not: views (Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout), what is computed
    from stored tensors alone, shape arithmetic, and values whose shape is not known. Bodies count
    as for `flops`.
    """
    return Polynomial.of((times, ledger.buffers[b].shape) for b, times in ledger.computed)

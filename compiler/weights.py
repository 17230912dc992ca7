"""What one channel of each hyperedge weighs in a cost (Passov, Gator, ICANN 2021, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prunec.compiler.cost import Polynomial
from prunec.compiler.problem import FloatArray


def edge_weights(cost: Polynomial, counts: Sequence[int], total: float | None = None) -> FloatArray:
    """(number of hyperedges,) share of the cost that one channel brings, at these kept counts.

    The derivative of the cost over `total`, the dense cost of the whole model by default. With the
    counts that are kept at the time these are Gator's adaptive weights, with dense ones the static.
    Every product is met from both of its sides: the weights times the counts add up to near 2.
    """
    slopes = cost.gradient(counts)
    whole = exact(cost, counts) if total is None else total
    return slopes / whole if whole else slopes


def half_shares(cost: Polynomial, dense: Sequence[int]) -> FloatArray:
    """(number of hyperedges,) share of the cost that goes with half of a hyperedge's channels."""
    whole = exact(cost, dense)
    out = []
    for e, size in enumerate(dense):
        counts = list(dense)
        counts[e] = size // 2
        out.append(1 - exact(cost, counts) / whole if whole else 0.0)
    return np.array(out)


def exact(cost: Polynomial, counts: Sequence[int]) -> float:
    """The cost without rounding: conventions count in fractions."""
    return float(sum(term(counts) for term in cost.terms))

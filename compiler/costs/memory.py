"""Bytes of activations that are in memory at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from prunec.compiler.cost import Linear, Peak, Polynomial
from prunec.compiler.costs.ledger import Ledger

COMPARED = 32  # moments that one is compared with; those that differ in scale alone share factors

Factors = tuple[Linear, ...]


def memory(ledger: Ledger) -> Peak:
    """The peak of live activation bytes over the order in which the nodes stand in the file.

    One polynomial per moment at which a buffer is taken; those that can't be the largest are left
    out. A buffer lives from the step that writes it to the last that reads it, an output of the
    graph to the end. `compiler/buffers.py` says what a step is and what shares a buffer: views,
    kernels that write in place, what onnxruntime fuses into a convolution. Graph inputs belong to
    the caller; weights, workspace of kernels, padding and fragmentation are not counted.
    """
    sums = [_by_factors(moment, ledger) for moment in ledger.moments]
    return Peak(tuple(_polynomial(own) for own in _largest(sums)))


def _by_factors(moment: Sequence[tuple[int, int]], ledger: Ledger) -> dict[Factors, float]:
    """Coefficient of each product of axes that can shrink."""
    out: dict[Factors, float] = {}
    for buffer, count in moment:
        tensor = ledger.buffers[buffer]
        fixed = prod(axis.constant for axis in tensor.shape if not axis.terms)
        factors = tuple(axis for axis in tensor.shape if axis.terms)
        out[factors] = out.get(factors, 0) + count * tensor.itemsize * fixed
    return out


def _polynomial(sums: Mapping[Factors, float]) -> Polynomial:
    return Polynomial.of((scale, (Linear(1), *factors)) for factors, scale in sums.items())


def _largest(sums: Sequence[dict[Factors, float]]) -> list[dict[Factors, float]]:
    """Without those of which another has at least every coefficient; in the order given."""
    # Whoever is larger somewhere is not behind in a sum over all coefficients.
    order = sorted(range(len(sums)), key=lambda k: (-sum(sums[k].values()), k))
    holders: dict[Factors, list[int]] = {}
    kept: list[int] = []
    for k in order:
        own = sums[k]
        rarest = min((holders.get(f, ()) for f in own), key=len, default=())
        if any(
            all(sums[other].get(f, 0) >= c for f, c in own.items()) for other in rarest[:COMPARED]
        ):
            continue
        kept.append(k)
        for factors in own:
            holders.setdefault(factors, []).append(k)
    return [sums[k] for k in sorted(kept)]

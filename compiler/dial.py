"""A decision beside kept counts: how many groups a convolution has, how many bits a weight."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dial:
    """One choice per weight, that scales what the weight costs.

    The selection problem sees it as one more hyperedge whose kept count is one of `counts`: the
    costs of the weight are those of the dense one times ``count / whole`` (passes/dials.py).

    name: unique, and not that of a hyperedge. kind: a row of KINDS in passes/dials.py, which says
    which resources are scaled ("groups", "bits"). choices: what each count means, in the same
    order: numbers of groups, or bits. counts: ascending; with groups ``whole // choice``. values:
    what each is worth to the objective, non-decreasing; the last is the dense one's. nodes: whose
    multiplications the choice scales, the readers of the weight; none where it scales bytes only.
    times: per choice, nanoseconds that it adds to the latency of the dense model, or saves; ()
    where time is not limited.
    """

    name: str
    kind: str
    weight: str
    choices: tuple[int, ...]
    counts: tuple[int, ...]
    whole: int
    values: tuple[float, ...]
    nodes: tuple[str, ...] = ()
    times: tuple[float, ...] = ()

    def choice(self, count: int) -> int:
        """What a count means."""
        return self.choices[self.counts.index(count)]

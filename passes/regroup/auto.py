"""Numbers of groups as variables of the selection problem, beside the kept counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from prunec.compiler.dial import Dial
from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import Limit
from prunec.passes.options import Options
from prunec.passes.regroup.offers import Offer, worths_of


@dataclass(frozen=True, slots=True)
class Auto:
    """One program over kept counts and numbers of groups: per convolution prune, group or both.

    worth: how much a weight's kept share counts, against channels; 2, as a hyperedge carries the
    cost of the weights on both its sides. ResNet-20 at flops=0.46, solved anew from 512 images:
    75.9 % of 2000 with 1, 83.1 % with 2, which are channels alone. equal: every convolution counts
    the same, as in the published mean of kept shares, instead of by what it costs.
    """

    name: ClassVar[str] = "auto"
    worth: float = 2.0
    equal: bool = False

    def __post_init__(self) -> None:
        if not self.worth > 0:
            raise UsageError(f"auto: worth={self.worth} must be above 0")

    def __call__(
        self,
        graph: Hypergraph,
        limits: tuple[Limit, ...],
        options: Options,
        offers: tuple[Offer, ...],
    ) -> tuple[Dial, ...]:
        """One dial per convolution that a limit has a part in."""
        blank = [offer.dial(tuple(offer.kept), offer.kept) for offer in offers]
        equal = self.equal or options.weighing.name == "equal"
        worths = self.worth * worths_of(graph, limits, options, blank, equal)
        return tuple(
            replace(dial, values=tuple(float(worth) * v**options.exponent for v in dial.values))
            for dial, worth in zip(blank, worths, strict=True)
            if worth > 0
        )

"""How to choose: everything that a user can say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prunec.compiler.criterion import Criterion
from prunec.compiler.errors import (
    UsageError,
)
from prunec.compiler.pairwise import PairwiseSolver
from prunec.compiler.problem import Solver
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.grouping import Grouping
from prunec.passes.pairwise.decide import (
    pairwise_solver,
    separable_solver,
)
from prunec.passes.pairwise.objectives import Objective, Pairwise, Separable
from prunec.passes.schedules.one_shot import OneShot
from prunec.passes.schedules.schedule import Schedule
from prunec.passes.solvers.auto import Auto
from prunec.passes.worth.share import Share
from prunec.passes.worth.sum import Sum
from prunec.passes.worth.worth import Worth


@dataclass(frozen=True, slots=True)
class Override:
    """Settings of the hyperedges that a pattern matches; None leaves the general setting."""

    align: int | None = None
    min_keep: int | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """How to choose. align: None = min(8, max(1, size // 8)) per hyperedge.

    keep: hyperedges that match any of these patterns are not touched. only: if given, no others
    are touched. overrides: pattern -> settings, later ones win. Patterns are searched in the
    hyperedge's name and in the names of the stored axes that its channels are made by.
    max_gap: the largest optimality gap to accept, or None. exponent: in (0, 1]; the value of a
    hyperedge is its cost share times (kept share of its scores) ** exponent. 1 is the plain sum;
    below 1 the first channels are worth more than the last, which spreads the cuts but makes
    optimality harder to prove. worth: what a hyperedge is worth as a whole; None: the sum of its
    scores where the criterion's are in one unit, else its share of the costs. multipliers:
    hyperedge name -> how many times as dear as its cost says its channels are; its value is
    divided by that.
    objective: what is maximised; where it is pairwise, criterion, exponent, worth and multipliers
    have no say, and solver is one of PAIRWISE_SOLVERS or the default. gamma: in (0, 1]; channels
    may cost 1 / gamma of the budget in flops and params, and kernel positions of single filters
    are zeroed until what is counted without them meets it. None: none are. schedule: in which
    steps channels leave. channels: whether any may; False leaves the budget to the groups of
    convolutions and the bits of weights. grouping: how convolutions become grouped ones.
    """

    criterion: Criterion = field(default_factory=Magnitude)
    solver: Solver | PairwiseSolver = field(default_factory=Auto)
    align: int | None = None
    min_keep: int = 1
    keep: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    overrides: Mapping[str, Override] = field(default_factory=dict)
    max_gap: float | None = None
    exponent: float = 1.0
    worth: Worth | None = None
    multipliers: Mapping[str, float] = field(default_factory=dict)
    objective: Objective = field(default_factory=Separable)
    gamma: float | None = None
    schedule: Schedule = field(default_factory=OneShot)
    channels: bool = True
    grouping: Grouping = field(default_factory=Grouping)

    def __post_init__(self) -> None:
        for name in ("align", "min_keep"):
            number = getattr(self, name)
            if number is not None and not isinstance(number, int):
                raise UsageError(f"{name} must be a whole number, not {number!r}")
        if not 0 < self.exponent <= 1:
            raise UsageError(f"--exponent must be in (0, 1], not {self.exponent}")
        if self.gamma is not None and not 0 < self.gamma <= 1:
            raise UsageError(f"--gamma must be in (0, 1], not {self.gamma}")
        if isinstance(self.objective, Pairwise):
            pairwise_solver(self.solver)
            self._check_pairwise()
        else:
            separable_solver(self.solver)

    def _check_pairwise(self) -> None:
        """Refuse what would have no effect."""
        for flag, given in (
            ("--score", self.criterion != Magnitude()),
            ("--exponent", self.exponent != 1.0),
            ("--worth", self.worth is not None),
            ("--edge-multipliers", bool(self.multipliers)),
            ("--schedule", self.schedule != OneShot()),
        ):
            if given:
                raise UsageError(f"{flag} has no effect with --objective pairwise; leave it out")

    @property
    def weighing(self) -> Worth:
        """What hyperedges are worth, with the default settled."""
        if self.worth is not None:
            return self.worth
        # Criteria of others need not say that their scores are in one unit: most are not.
        return Sum() if getattr(self.criterion, "comparable", False) else Share()

    def provenance(self) -> dict[str, Any]:
        """What the plan records, as JSON values."""
        shown: dict[str, Any] = {
            "align": self.align,
            "min_keep": self.min_keep,
            "exponent": self.exponent,
            "keep": list(self.keep),
            "only": list(self.only),
        }
        if not self.channels:
            shown["channels"] = False
        if self.multipliers:
            shown["edge_multipliers"] = dict(self.multipliers)
        for pattern, o in self.overrides.items():
            shown.setdefault("overrides", {})[pattern] = {
                "align": o.align, "min_keep": o.min_keep, "keep": o.keep,
            }  # fmt: skip
        return shown

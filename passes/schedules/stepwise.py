"""All hyperedges lose channels step by step, the first steps being the largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph
from prunec.passes.schedules.schedule import Step


@dataclass(frozen=True, slots=True)
class Stepwise:
    """All hyperedges lose channels in steps; in between the model is recovered and scored again.

    steps: after step t of T a share of ``1 - (1 - t/T)^3`` is gone of what the budget removes.
    Source: Zhu & Gupta, 2017, equation 1.
    """

    name: ClassVar[str] = "stepwise"
    steps: int = 4

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"schedule 'stepwise': steps must be at least 1, not {self.steps}")

    def course(self, graph: Hypergraph) -> tuple[Step, ...]:
        """As many as there are steps, to a share of 1."""
        return tuple(Step(1 - (1 - t / self.steps) ** 3) for t in range(1, self.steps + 1))

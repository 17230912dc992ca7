"""Everything leaves at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from prunec.compiler.hypergraph import Hypergraph
from prunec.passes.schedules.schedule import Step


@dataclass(frozen=True, slots=True)
class OneShot:
    """Everything leaves at once, by scores of the dense model."""

    name: ClassVar[str] = "one-shot"

    def course(self, graph: Hypergraph) -> tuple[Step, ...]:
        """One."""
        return (Step(),)

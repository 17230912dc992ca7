"""In which steps channels leave; between two of them the rest is recovered and scored again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from prunec.compiler.hypergraph import Hypergraph


@dataclass(frozen=True, slots=True)
class Step:
    """One round of choosing.

    share: how much is gone after it of what the budget removes, in (0, 1]. edges: the hyperedges
    (indices) that reach their final kept counts in it, whatever that costs until then; None: all
    lose channels, as the share of the budget says.
    """

    share: float = 1.0
    edges: tuple[int, ...] | None = None


class Schedule(Protocol):
    """A row of `SCHEDULES`: a frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def course(self, graph: Hypergraph) -> tuple[Step, ...]:
        """The steps, at least one; after the last one everything is gone."""
        ...

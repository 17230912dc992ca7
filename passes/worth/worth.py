"""What turns scores, which compare channels of one hyperedge, into values that add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import FloatArray, Limit


class Worth(Protocol):
    """A row of `WORTHS`: a frozen dataclass whose fields are its options.

    rounds: how often to choose again with the worths at the counts that were chosen; 0 where they
    do not depend on the counts.
    """

    name: ClassVar[str]

    @property
    def rounds(self) -> int:
        """How often to choose again."""
        ...

    def __call__(
        self,
        graph: Hypergraph,
        limits: tuple[Limit, ...],
        counts: Sequence[int],
        totals: FloatArray,
    ) -> FloatArray:
        """(number of hyperedges,) >= 0; counts: where costs are weighed.

        totals: (number of hyperedges,) sums of the scores, >= 0.
        """
        ...

"""The pairwise objective: importance on channel pairs, and its solvers, one file and row each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prunec.compiler.pairwise import PairwiseSolver
from prunec.passes.pairwise.auto import Auto
from prunec.passes.pairwise.greedy import Greedy
from prunec.passes.pairwise.lagrangian import Lagrangian
from prunec.passes.pairwise.milp import Milp
from prunec.passes.pairwise.objectives import OBJECTIVES, Objective, Pairwise, Separable

PAIRWISE_SOLVERS: Mapping[str, type[PairwiseSolver]] = MappingProxyType(
    {"auto": Auto, "lagrangian": Lagrangian, "milp": Milp, "greedy": Greedy}
)
__all__ = ["OBJECTIVES", "PAIRWISE_SOLVERS", "Objective", "Pairwise", "Separable"]

"""Solvers of the selection problem: one file and one row each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prunec.compiler.problem import Solver
from prunec.passes.solvers.auto import Auto
from prunec.passes.solvers.greedy import Greedy
from prunec.passes.solvers.milp import Milp

SOLVERS: Mapping[str, type[Solver]] = MappingProxyType(
    {"auto": Auto, "milp": Milp, "greedy": Greedy}
)

"""A solver and a criterion that write down every call: what was computed, and what was found."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.problem import Problem, Solution
from prunec.compiler.stats import Stats
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.solvers.greedy import Greedy


@dataclass(frozen=True)
class Logged:
    """Greedy; a line per call."""

    name: ClassVar[str] = "logged"
    log: str
    pause: float = 0.0

    def __call__(self, problem: Problem, start: tuple[int, ...] | None) -> Solution:
        _note(self.log)
        time.sleep(self.pause)
        return Greedy()(problem, start)


@dataclass(frozen=True)
class LoggedMagnitude:
    """Magnitude; a line per call."""

    name: ClassVar[str] = "logged"
    needs: ClassVar[str] = ""
    log: str

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> np.ndarray:
        _note(self.log)
        return Magnitude()(model, graph, stats)


def _note(log: str) -> None:
    with Path(log).open("a") as file:
        file.write("call\n")


def calls(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0

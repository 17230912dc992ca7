"""What a compile gives back: the pruned model, its plan, and the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from prunec.compiler.diagnostics import Diagnostic
from prunec.compiler.grouped import GroupedLayer, gathers_left, grouped_layers, mean_kept
from prunec.compiler.plan import Plan
from prunec.frontends.onnx import save, to_proto

if TYPE_CHECKING:
    from prunec.compiler.recovery import Recovered
    from prunec.passes.quantize.density import Density
    from prunec.runtime.accuracy import Accuracy
    from prunec.runtime.bench import BenchResult
    from prunec.runtime.quantize.report import QuantisationReport
    from prunec.runtime.verify import Verification


def decision(found: Plan | Report, solver: str, proof: str) -> dict[str, Any]:
    """What was decided, as JSON values; solver, proof: who answered, and who proved the bound."""
    if isinstance(found, Plan):
        layers, gathers = grouped_layers(found), gathers_left(found)
    else:
        layers, gathers = found.grouped, found.gathers
    return {
        "costs": {
            name: {"dense": a, "pruned": b, "ratio": b / a if a else 1.0}
            for name, (a, b) in found.costs.items()
        },
        "budget": {
            name: {"limit": limit, "used": found.costs[name][1] / limit if limit else 1.0}
            for name, limit in found.budget.items()
        },
        "objective": found.objective,
        "bound": found.bound,
        "gap": found.gap,
        "solver": solver,
        "proved_by": proof,
        "prices": dict(found.prices),
        "grouped": {
            "layers": [layer.to_dict() for layer in layers],
            "mean_kept": mean_kept(layers),
            "gathers_left": None if gathers is None else list(gathers),
        },
    }


@dataclass(frozen=True, slots=True)
class Report:
    """The evidence. sizes: bytes on disk, (dense, pruned), when files are known.

    proved_by: who proved the bound, "" without one. prices: see `Plan`. grouped: convolutions that
    became grouped ones; gathers: names of the nodes that reorder channels for them.
    """

    costs: Mapping[str, tuple[int, int]]
    budget: Mapping[str, int]
    objective: float
    bound: float | None
    gap: float | None
    solved_by: str
    diagnostics: tuple[Diagnostic, ...]
    verification: Verification | None = None
    accuracy: tuple[Accuracy, Accuracy] | None = None
    bench: BenchResult | None = None
    sizes: tuple[int, int] | None = None
    proved_by: str = ""
    prices: Mapping[str, float] = field(default_factory=dict)
    recovery: Recovered | None = None
    grouped: tuple[GroupedLayer, ...] = ()
    gathers: tuple[str, ...] | None = None
    quantised: QuantisationReport | None = None
    density: tuple[Density, Density] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            **decision(self, self.solved_by, self.proved_by),
            "diagnostics": [d.to_dict() for d in self.diagnostics],
            "verification": None if self.verification is None else self.verification.to_dict(),
            "accuracy": None
            if self.accuracy is None
            else {"dense": self.accuracy[0].to_dict(), "pruned": self.accuracy[1].to_dict()},
            "density": None
            if self.density is None
            else {"dense": self.density[0].to_dict(), "pruned": self.density[1].to_dict()},
            "recovery": None if self.recovery is None else self.recovery.to_dict(),
            "quantised": None if self.quantised is None else self.quantised.to_dict(),
            "bench": None if self.bench is None else self.bench.to_dict(),
            "file_bytes": None
            if self.sizes is None
            else {"dense": self.sizes[0], "pruned": self.sizes[1]},
        }


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A pruned model with its plan and report."""

    model: ir.Model = field(repr=False)
    plan: Plan = field(repr=False)
    report: Report

    def save(self, path: str | Path) -> None:
        """Write the model atomically. Raises OutputError."""
        save(self.model, Path(path))

    def to_proto(self) -> onnx.ModelProto:
        """The model as a protobuf message."""
        return to_proto(self.model)

    def to_graphsurgeon(self) -> Any:
        """The model as an onnx-graphsurgeon graph."""
        from prunec.frontends.graphsurgeon import to_graphsurgeon

        return to_graphsurgeon(self.model)

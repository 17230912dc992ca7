"""``prunec quantize``: one model in, the quantised model and the evidence out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from prunec.compiler.diagnostics import Diagnostic
from prunec.frontends.onnx import load, save
from prunec.frontends.origin import origin_of
from prunec.passes.quantize.recipe import Recipe
from prunec.runtime.accuracy import Accuracy, accuracy, report_data
from prunec.runtime.bench import BenchResult, bench, size_on_disk
from prunec.runtime.inputs import model_inputs
from prunec.runtime.quantize.joint import edge_names
from prunec.runtime.quantize.quantise import Conditions
from prunec.runtime.quantize.report import QuantisationReport
from prunec.runtime.quantize.step import quantised, recipe_of
from prunec.runtime.recovery.recover import Running
from prunec.runtime.stage import staged
from prunec.runtime.subject import Source, open_model
from prunec.runtime.verify import Check

if TYPE_CHECKING:
    from prunec.runtime.compile import Settings


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedModel:
    """A quantised model with its evidence.

    accuracy, bench: float, quantised. sizes: bytes on disk, the same. bits: of every weight.
    """

    model: ir.Model = field(repr=False)
    report: QuantisationReport
    checks: tuple[Check, ...]
    diagnostics: tuple[Diagnostic, ...]
    bits: Mapping[str, int]
    accuracy: tuple[Accuracy, Accuracy] | None = None
    bench: BenchResult | None = None
    sizes: tuple[int, int] | None = None

    def save(self, path: str | Path) -> None:
        """Write the model atomically. Raises OutputError."""
        save(self.model, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        sizes, scores = self.sizes, self.accuracy
        return {
            **self.report.to_dict(),
            "bits": dict(self.bits),
            "diagnostics": [d.to_dict() for d in self.diagnostics],
            "checks": {c.name: {"passed": c.passed, "detail": c.detail} for c in self.checks},
            "accuracy": scores and {"float": scores[0].to_dict(), "quantised": scores[1].to_dict()},
            "bench": None if self.bench is None else self.bench.to_dict(),
            "file_bytes": sizes and {"float": sizes[0], "quantised": sizes[1]},
        }


def quantise_model(
    source: Source,
    recipe: str | Recipe,
    settings: Settings,
    out: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> QuantisedModel:
    """Quantise a model by itself; the file appears only when everything holds.

    settings: of these shapes, data, eval_data, metrics, accuracy, verify, bench, provider, threads
    and quantize_exclude count. Raises UsageError, DataError, ModelError, VerificationError,
    OutputError.
    """
    found = recipe_of(recipe, settings.quantize_exclude)
    progress("analysing")
    model = load(source)
    edges = {}
    if found.rules or found.exclude:
        edges = edge_names(open_model(model, settings.shapes).graph)
    running = Running(settings.provider, settings.threads)
    conditions = Conditions(settings.shapes, settings.data, running, edges)
    step = quantised(model, found, conditions, verify=settings.verify, progress=progress)
    path = Path(source) if isinstance(source, str | Path) else None
    done = QuantisedModel(
        step.done.model, step.report, step.checks, step.diagnostics, step.done.bits
    )
    with staged([out] if out is not None else []) as stage:
        written = None if out is None else stage[out]
        if written is not None:
            progress("writing")
            save(step.done.model, written, external=True if origin_of(model).external else None)
        done = replace(
            done,
            accuracy=_accuracies(model, step.done.model, settings, progress),
            bench=_bench(model, path, step.done.model, written, settings, progress),
        )
        if path is not None and written is not None:
            done = replace(done, sizes=(size_on_disk(path), size_on_disk(written)))
    return _scored(done)


def _scored(done: QuantisedModel) -> QuantisedModel:
    """The report with what the model scores per bit, where accuracy was measured."""
    size = done.report.size
    values = () if done.accuracy is None else done.accuracy[1].values
    if size is None or not values or values[0][1] is None:
        return done
    scored = replace(size, score=100 * values[0][1])
    return replace(done, report=replace(done.report, size=scored))


def _accuracies(
    model: ir.Model, quantised: ir.Model, settings: Settings, progress: Callable[[str], None]
) -> tuple[Accuracy, Accuracy] | None:
    judged = settings.data is not None or settings.eval_data is not None
    if not settings.accuracy or not judged:
        return None
    data = report_data(settings.data, settings.eval_data, settings.metrics, model_inputs(model))
    if data is None:
        return None
    progress("measuring accuracy")
    first, second = (
        accuracy(m, data, settings.metrics, provider=settings.provider, threads=settings.threads)
        for m in (model, quantised)
    )
    return first, second


def _bench(
    model: ir.Model,
    path: Path | None,
    quantised: ir.Model,
    written: Path | None,
    settings: Settings,
    progress: Callable[[str], None],
) -> BenchResult | None:
    if not settings.bench:
        return None
    progress("measuring latency")
    with tempfile.TemporaryDirectory(prefix="prunec-") as folder:
        if path is None:
            path = Path(folder) / "float.onnx"
            save(model, path)
        if written is None:
            written = Path(folder) / "quantised.onnx"
            save(quantised, written)
        return bench(
            [path, written],
            provider=settings.provider,
            threads=settings.threads,
            shapes=settings.shapes,
        )

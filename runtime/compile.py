"""The main job: model and budget in; pruned model, plan and evidence out."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from prunec.compiler.diagnostics import Diagnostic
from prunec.compiler.errors import OutputError, PlanError, UsageError
from prunec.compiler.extensions import Source as RulesSource
from prunec.compiler.freedom import Freedom
from prunec.compiler.plan import Plan, weight_slices
from prunec.compiler.stats import Stats
from prunec.frontends.calls import with_calls
from prunec.frontends.onnx import load, save, to_proto
from prunec.passes.apply import prune as rewrite
from prunec.passes.pipeline import Options, make_plan
from prunec.runtime.subject import Subject

if TYPE_CHECKING:
    from prunec.runtime.accuracy import Accuracy
    from prunec.runtime.bench import BenchResult
    from prunec.runtime.data import DataSpec
    from prunec.runtime.verify import Verification

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to do besides choosing. data: for calibration and accuracy. shapes: bindings.

    freedom: what coupling may let go when a plan is made; one that is applied brings its own.
    rules: modules with rules for operators, see `load_extensions`.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    data: DataSpec | None = None
    verify: bool = True
    bench: bool = False
    strict: bool = False
    freedom: Freedom = field(default_factory=Freedom)
    rules: tuple[RulesSource, ...] = ()
    provider: str = "cpu"
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    """The evidence. sizes: bytes on disk, (dense, pruned), when files are known."""

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

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "costs": {
                name: {"dense": a, "pruned": b, "ratio": b / a if a else 1.0}
                for name, (a, b) in self.costs.items()
            },
            "budget": {
                name: {"limit": limit, "used": self.costs[name][1] / limit if limit else 1.0}
                for name, limit in self.budget.items()
            },
            "objective": self.objective,
            "bound": self.bound,
            "gap": self.gap,
            "solver": self.solved_by,
            "diagnostics": [
                {"code": d.code, "node": d.node, "severity": d.severity.value, "message": d.message}
                for d in self.diagnostics
            ],
            "verification": None if self.verification is None else self.verification.to_dict(),
            "accuracy": None
            if self.accuracy is None
            else {"dense": self.accuracy[0].to_dict(), "pruned": self.accuracy[1].to_dict()},
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


def calibrate(subject: Subject, options: Options, settings: Settings) -> Stats | None:
    """Run the dense model on the data when the criterion needs it."""
    if not options.criterion.needs_data:
        return None
    if settings.data is None:
        raise UsageError(f"criterion {options.criterion.name!r} needs data; give it with --data")
    from prunec.runtime.calibrate import collect
    from prunec.runtime.data import load_data
    from prunec.runtime.inputs import model_inputs

    data = load_data(settings.data, model_inputs(subject.model))
    return collect(
        subject.model,
        subject.graph.reads,
        data,
        zeros=subject.graph.zeros,
        provider=settings.provider,
        threads=settings.threads,
    )


def plan_for(
    subject: Subject, budget: str | Sequence[str], options: Options, settings: Settings
) -> Plan:
    """Decide, without rewriting."""
    stats = calibrate(subject, options, settings)
    plan = make_plan(subject.model, subject.graph, budget, options, subject.digest, stats)
    names = list(subject.extensions.names)
    return replace(plan, options={**plan.options, "rules": names}) if names else plan


def apply_plan(subject: Subject, plan: Plan) -> ir.Model:
    """Rewrite. Raises PlanError when the plan belongs to another model or was edited badly."""
    check_plan(subject, plan)
    pruned = rewrite(subject.model, subject.facts, subject.graph, plan.mask(subject.graph))
    return with_calls(pruned, subject.model)


def check_plan(subject: Subject, plan: Plan) -> None:
    """Hold a plan against the model that it claims to be for. Raises PlanError."""
    missing = [name for name in plan.rules if name not in subject.extensions.names]
    if missing:
        raise PlanError(
            f"$.options.rules: the plan was made with --rules {missing[0]}, which is missing here; "
            "give it again (the module or its file)"
        )
    if plan.graph_sha256 != subject.digest:
        raise PlanError(
            f"$.graph_sha256: the plan was made for another model ({plan.graph_sha256[:12]}..., "
            f"this one is {subject.digest[:12]}...)"
        )
    mask = plan.mask(subject.graph)
    expected = weight_slices(subject.graph, mask)
    for name in sorted({*expected, *plan.weights}):
        if dict(expected.get(name, {})) != dict(plan.weights.get(name, {})):
            raise PlanError(f"$.weights[{name!r}]: does not follow from the hyperedges")
    counts = plan.counts(subject.graph)
    for resource, cost in subject.graph.costs.items():
        true = (cost(subject.graph.dense()), cost(counts))
        if plan.costs.get(resource) != true:
            raise PlanError(
                f"$.costs[{resource!r}]: is {plan.costs.get(resource)}, but the model costs {true}"
            )
    for resource in plan.costs:
        if resource not in subject.graph.costs:
            raise PlanError(f"$.costs[{resource!r}]: unknown resource")
    for resource, limit in plan.budget.items():
        if resource not in plan.costs:
            raise PlanError(f"$.budget[{resource!r}]: unknown resource")
        if plan.costs[resource][1] > limit:
            raise PlanError(f"$.budget[{resource!r}]: {plan.costs[resource][1]} exceeds {limit}")


def compile_model(
    subject: Subject,
    plan: Plan,
    settings: Settings,
    out: Path | None = None,
    plan_out: Path | None = None,
    progress: Progress = silent,
) -> Result:
    """Rewrite, prove, measure and write; files appear only when everything holds.

    out, plan_out: where to write, or None. Raises VerificationError, OutputError, PlanError.
    """
    progress("rewriting")
    pruned = apply_plan(subject, plan)
    verification = accuracies = timings = sizes = None
    with staged([p for p in (out, plan_out) if p is not None], subject) as stage:
        staged_model = None
        if out is not None:
            progress("writing")
            staged_model = stage[out]
            save(pruned, staged_model, external=external_like(subject.source))
            pruned = load(staged_model)
        if plan_out is not None:
            write_text(stage[plan_out], plan.to_json())
        if settings.verify:
            progress("verifying")
            from prunec.runtime.verify import verify

            verification = verify(subject, plan, pruned, staged_model)
            verification.require()
        accuracies = _accuracies(subject, pruned, settings, progress)
        if settings.bench:
            progress("measuring latency")
            timings = _bench(subject, pruned, staged_model, settings)
            timings = _named(timings, str(subject.path or "dense"), str(out or "pruned"))
        if staged_model is not None and subject.path is not None:
            sizes = _sizes(subject.path, staged_model)
    if out is not None:
        pruned = load(out)
    report = Report(
        costs=plan.costs,
        budget=plan.budget,
        objective=plan.objective,
        bound=plan.bound,
        gap=plan.gap,
        solved_by=plan.components.get("solved_by", ""),
        diagnostics=subject.graph.diagnostics,
        verification=verification,
        accuracy=accuracies,
        bench=timings,
        sizes=sizes,
    )
    return Result(pruned, plan, report)


def _accuracies(
    subject: Subject, pruned: ir.Model, settings: Settings, progress: Progress
) -> tuple[Accuracy, Accuracy] | None:
    if settings.data is None:
        return None
    from prunec.runtime.accuracy import accuracy
    from prunec.runtime.data import load_data
    from prunec.runtime.inputs import model_inputs

    data = load_data(settings.data, model_inputs(subject.model))
    if data.labels is None:
        return None
    progress("measuring accuracy")
    dense, slim = (
        accuracy(model, data, provider=settings.provider, threads=settings.threads)
        for model in (subject.model, pruned)
    )
    return dense, slim


def _bench(
    subject: Subject, pruned: ir.Model, staged_model: Path | None, settings: Settings
) -> BenchResult:
    from prunec.runtime.bench import bench

    with tempfile.TemporaryDirectory(prefix="prunec-") as folder:
        dense = subject.path
        if dense is None:
            dense = Path(folder) / "dense.onnx"
            save(subject.source, dense)
        if staged_model is None:
            staged_model = Path(folder) / "pruned.onnx"
            save(pruned, staged_model)
        return bench(
            [dense, staged_model],
            provider=settings.provider,
            threads=settings.threads,
            shapes=settings.shapes,
        )


def _named(timings: BenchResult, dense: str, pruned: str) -> BenchResult:
    """The same with names that last: the files were measured before they moved."""
    first, second = timings.models
    (ratio,) = timings.ratios
    return replace(
        timings,
        models=(replace(first, path=dense), replace(second, path=pruned)),
        ratios=(replace(ratio, path=pruned),),
    )


def plan_path(out: Path) -> Path:
    """Where the plan of an output goes by default.

    >>> plan_path(Path("nets/a.pruned.onnx")).as_posix()
    'nets/a.plan.json'
    """
    return out.with_name(out.name.removesuffix(".onnx").removesuffix(".pruned") + ".plan.json")


def _sizes(dense: Path, pruned: Path) -> tuple[int, int]:
    from prunec.runtime.bench import size_on_disk

    return size_on_disk(dense), size_on_disk(pruned)


def external_like(model: ir.Model) -> bool | None:
    """True where the input had its weights beside it; None lets the size decide."""
    from prunec.frontends.origin import origin_of

    return True if origin_of(model).external else None


def write_text(path: Path, text: str) -> None:
    """Write a small file. Raises OutputError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def staged(targets: Sequence[Path], subject: Subject | None = None) -> Iterator[dict[Path, Path]]:
    """Where to write meanwhile: files move to their targets together, or not at all.

    Yields target -> temporary path in the target's folder (same file system, same base name, so
    that references to external data hold). Raises OutputError, with the old files untouched.
    """
    folders: dict[Path, tempfile.TemporaryDirectory[str]] = {}
    stage: dict[Path, Path] = {}
    source = subject.path if subject is not None else None
    try:
        for target in targets:
            if target.is_dir():
                raise OutputError(f"{target}: is a directory; give a file name")
            if target.exists() and not target.is_file():
                # A rename would put a file where a device or a pipe was.
                raise OutputError(f"{target}: is not a regular file; outputs replace files only")
            if source is not None and target.exists() and target.samefile(source):
                raise OutputError(f"{target}: would overwrite the input; choose another --output")
            parent = target.parent.resolve()
            if parent not in folders:
                try:
                    folders[parent] = tempfile.TemporaryDirectory(prefix=".prunec-", dir=parent)
                except OSError as error:
                    raise OutputError(
                        f"cannot write to {target.parent}: {error.strerror or error}"
                    ) from error
            stage[target] = Path(folders[parent].name) / target.name
        yield stage
        for target, temporary in stage.items():
            _move(temporary, target, frozenset(stage.values()))
    except OutputError as error:
        text = str(error)
        for target, temporary in stage.items():
            text = text.replace(str(temporary), str(target))
        raise OutputError(text) from error
    finally:
        for folder in folders.values():
            folder.cleanup()


def _move(temporary: Path, target: Path, staged_files: frozenset[Path]) -> None:
    # External data first: a model without its data would be half an output.
    beside = sorted(set(temporary.parent.glob(f"{glob.escape(temporary.name)}.*")) - staged_files)
    try:
        for path in [*beside, temporary]:
            path.replace(target.parent / path.name)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error

"""The main job: model and budget in; pruned model, plan and evidence out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from prunec.compiler.diagnostics import Diagnostic, Severity, slow_additions
from prunec.compiler.errors import NotFasterError, UsageError
from prunec.compiler.extensions import Source as RulesSource
from prunec.compiler.freedom import Freedom
from prunec.compiler.grouped import KEY as GROUPING
from prunec.compiler.grouped import grouped_layers, stays_dense
from prunec.compiler.plan import Plan
from prunec.compiler.stats import Stats
from prunec.frontends.calls import with_calls
from prunec.frontends.onnx import load, save
from prunec.passes.apply import prune as rewrite
from prunec.passes.gates.goal import goal_of
from prunec.passes.options import Options
from prunec.passes.pipeline import decide, everything, limits_of, plan_of
from prunec.passes.positions import with_zeros
from prunec.passes.schedules.one_shot import OneShot
from prunec.runtime.check_plan import check_plan
from prunec.runtime.density import densities
from prunec.runtime.finish import finish
from prunec.runtime.grouped import slicing
from prunec.runtime.quantize.again import not_quantised, settled_settings
from prunec.runtime.report import Report, Result
from prunec.runtime.scores import Scores, scored
from prunec.runtime.stage import staged, write_text
from prunec.runtime.subject import Subject
from prunec.runtime.thin import loosened, thinned, zeroed_of

if TYPE_CHECKING:
    from prunec.compiler.recovery import Recovery
    from prunec.passes.gates.goal import Goal
    from prunec.passes.quantize.recipe import Recipe as QuantisingRecipe
    from prunec.passes.quantize.trained import Trained
    from prunec.runtime.accuracy import Accuracy
    from prunec.runtime.bench import BenchResult
    from prunec.runtime.data import DataSpec
    from prunec.runtime.latency.profile import Profile
    from prunec.runtime.metrics import MetricSource

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to do besides choosing. data: for calibration and accuracy. shapes: bindings.

    freedom: what coupling may let go when a plan is made; one that is applied brings its own.
    rules: modules with rules for operators, see `load_extensions`. min_speedup: nothing is written
    unless the result is measured to be so many times as fast; implies `bench`. profile: where a
    latency budget takes times from, a file or what `prunec.profile` returns; None: they are
    measured when one is asked for. latency_model: lut, m5, m6 or half-edge. batch: of latency, for
    symbolic first dimensions. scores: of channel groups, as `prunec.scores` gave or wrote them,
    instead of computing them. save_scores: where to write those that were computed. eval_data:
    what accuracy is measured on, `data` without it. metrics: what is measured there, see
    `runtime/metrics.py`; none: top-1 and top-5 where there are labels. goal: what evidence that is
    trained aims at; `plan_for` fills it in. recover: how accuracy is won back after slicing, a
    component or its specification; auto: by least squares where there is data; none. accuracy:
    whether to measure it where that can be done. quantize: a recipe for after all that, or its
    text; None for what the plan says, "none" for none. quantize_exclude: patterns of what stays
    float. trained: the scales for it that training found, of the dense model.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    data: DataSpec | None = None
    verify: bool = True
    bench: bool = False
    min_speedup: float | None = None
    strict: bool = False
    freedom: Freedom = field(default_factory=Freedom)
    rules: tuple[RulesSource, ...] = ()
    provider: str = "cpu"
    threads: int = 1
    profile: str | Path | Profile | None = None
    latency_model: str = "lut"
    batch: int | None = None
    recover: str | Recovery = "auto"
    scores: str | Path | Scores | None = None
    save_scores: str | Path | None = None
    eval_data: DataSpec | None = None
    metrics: tuple[MetricSource, ...] = ()
    goal: Goal | None = None
    accuracy: bool = True
    quantize: str | QuantisingRecipe | None = None
    quantize_exclude: tuple[str, ...] = ()
    trained: Trained | None = None


def calibrate(
    subject: Subject, options: Options, settings: Settings, progress: Progress = silent
) -> Stats | None:
    """The evidence that the criterion needs, from the dense model and the data; None for none.

    Raises UsageError without data or for evidence that nothing collects.
    """
    criterion = options.criterion
    if not criterion.needs:
        return None
    from prunec.runtime.evidence import collector_of

    collector = collector_of(criterion)
    if settings.data is None:
        raise UsageError(f"criterion {criterion.name!r} needs data; give it with --data")
    return collector(subject, criterion, settings, progress)


def plan_for(
    subject: Subject,
    budget: str | Sequence[str],
    options: Options,
    settings: Settings,
    progress: Progress = silent,
) -> Plan:
    """Decide, without rewriting.

    budget: "" where nothing but groups that need none is to be decided. Raises UsageError.
    """
    from prunec.runtime.grouping import check_company, group_dials, grouped_plan, without_dead
    from prunec.runtime.quantize.joint import bits_posed, finely, refuse_auto, with_bits

    check_company(options)
    if not budget:
        return without_budget(subject, options, settings, progress)
    timed, record = priced(subject, budget, options, settings, progress)
    limits = limits_of(timed.graph, budget)
    loose = limits if options.gamma is None else loosened(timed.graph, limits, options.gamma)
    if options.criterion.needs == "gates":
        settings = replace(settings, goal=goal_of(timed.graph, loose, options))
    if options.schedule == OneShot():
        found = scored(subject, timed.graph, options, settings, progress)
        options, record = found.options, {**record, **found.record}
        dials = group_dials(timed, loose, options, settings, progress)
        posed = bits_posed(subject, timed.graph, loose, found.values, options, settings, progress)
        if posed is not None:
            timed, dials = replace(timed, graph=posed.graph), (*dials, *posed.dials)
            options = finely(options) if posed.dials else options
        choice = decide(timed.graph, found.values, loose, options, dials=dials)
    else:
        from prunec.runtime.schedule import choose_in_steps

        posed = None
        refuse_auto(settings, "--schedule")
        choice, own = choose_in_steps(subject, timed.graph, loose, options, settings, progress)
        record = {**record, **own}
    choice = without_dead(subject, choice, options)
    plan = plan_of(timed.graph, choice, loose, options, subject.digest)
    if options.gamma is not None:
        record = {**record, **thinned(subject, plan, limits, options.gamma)}
    plan = with_rules(subject, replace(plan, options={**plan.options, **record}))
    bits = {} if posed is None else posed.chosen(choice.dials)
    plan = replace(plan, bits=bits)
    if options.grouping.active:
        plan = grouped_plan(subject, plan, choice, options, settings, progress)
    return plan if posed is None else with_bits(subject, plan, posed, bits)


def without_budget(
    subject: Subject, options: Options, settings: Settings, progress: Progress = silent
) -> Plan:
    """Keep every channel, apart from those that are detected to be dead, and group what is told.

    Raises UsageError where nothing of that is asked for.
    """
    require_budget("", options)
    from prunec.runtime.grouping import grouped_plan, without_dead
    from prunec.runtime.quantize.joint import refuse_auto

    refuse_auto(settings, "no --budget")

    choice = without_dead(subject, everything(subject.graph), options)
    plan = with_rules(subject, plan_of(subject.graph, choice, (), options, subject.digest))
    return grouped_plan(subject, plan, choice, options, settings, progress)


def require_budget(budget: str | Sequence[str], options: Options) -> None:
    """Raise UsageError where there is none and nothing can be decided without one."""
    if not budget and options.grouping.searched:
        raise UsageError(
            f"--group-conv {options.grouping.conv} chooses under a budget; give one, for example "
            "--budget flops=0.5"
        )
    if not budget and options.grouping.needs_budget:
        raise UsageError(
            "--budget is required, for example --budget flops=0.5; only --group-conv N, "
            "--max-per-group, --detect-groups and --detect-dead can do without"
        )


def priced(
    subject: Subject,
    budget: str | Sequence[str],
    options: Options,
    settings: Settings,
    progress: Progress = silent,
) -> tuple[Subject, Mapping[str, Any]]:
    """The subject with latency among its costs where a profile is given or a budget names it.

    And what the plan records of it, for `Plan.options`. Raises ProfileError, UsageError.
    """
    from prunec.runtime.latency.attach import Wanted, names_latency, with_latency
    from prunec.runtime.latency.kernels import Where

    if settings.profile is None and not names_latency(budget):
        return subject, {}
    where = Where(settings.provider, settings.threads)
    wanted = Wanted(settings.profile, settings.latency_model, where, settings.batch, settings.rules)
    timed, record = with_latency(subject, options, wanted, progress)
    return timed, {"latency": dict(record)}


def with_rules(subject: Subject, plan: Plan) -> Plan:
    """The plan with the names of the modules of rules that it was made with."""
    names = list(subject.extensions.names)
    return replace(plan, options={**plan.options, "rules": names}) if names else plan


def apply_plan(subject: Subject, plan: Plan) -> ir.Model:
    """Rewrite. Raises PlanError when the plan belongs to another model or was edited badly."""
    check_plan(subject, plan)
    dense = with_zeros(subject.model, zeroed_of(plan))
    pruned = rewrite(dense, subject.facts, subject.graph, plan.mask(subject.graph))
    return with_calls(pruned, subject.model)


def compile_model(
    subject: Subject,
    plan: Plan,
    settings: Settings,
    out: Path | None = None,
    plan_out: Path | None = None,
    progress: Progress = silent,
) -> Result:
    """Rewrite, prove, measure and write; files appear only when everything holds.

    out, plan_out: where to write, or None. Raises VerificationError, OutputError, PlanError,
    NotFasterError.
    """
    progress("rewriting")
    pruned = apply_plan(subject, plan)
    verification = accuracies = timings = sizes = won = None
    with staged([p for p in (out, plan_out) if p is not None], subject) as stage:
        recovery = recovery_of(settings, plan)
        given = plan
        settings, plan = settled_settings(subject, settings, _unmarked(plan))
        more = recovery is not None or bool(plan.groups) or settings.quantize is not None
        staged_model = stage.get(out) if out is not None else None
        if staged_model is not None:
            progress("writing")
            # What is proved is what was sliced; the model that is written is another file.
            sliced = _apart(staged_model) if more else staged_model
            save(pruned, sliced, external=external_like(subject.source))
            pruned = load(sliced)
        if settings.verify:
            progress("verifying")
            from prunec.runtime.verify import verify

            alone = slicing(subject, plan)
            verification = verify(subject, alone, pruned, sliced if staged_model else None)
            verification.require()
        if more:
            won = finish(subject, plan, pruned, recovery, settings, verification, progress)
            plan, verification = won.plan, won.verification
            if verification is not None:
                verification.require()
            pruned = won.model
            if staged_model is not None:
                save(pruned, staged_model, external=external_like(subject.source))
                pruned = load(staged_model)
        if verification is not None and settings.quantize is None and plan.options.get(GROUPING):
            from prunec.runtime.regroup.prove import prove_lossless

            checks = (*verification.checks, *prove_lossless(subject, plan, pruned))
            verification = replace(verification, checks=checks)
            verification.require()
        if plan_out is not None:
            write_text(stage[plan_out], plan.to_json())
        if settings.accuracy:
            accuracies = _accuracies(subject, pruned, settings, progress)
        density = densities(subject, pruned, accuracies, None if won is None else won.quantised)
        if settings.bench or settings.min_speedup is not None:
            progress("measuring latency")
            timings = _bench(subject, pruned, staged_model, settings)
            _require_speedup(timings, settings.min_speedup)
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
        proved_by=plan.components.get("proved_by", ""),
        prices=plan.prices,
        diagnostics=(
            *subject.graph.diagnostics,
            *slow_additions(plan.slow_joins),
            *(() if won is None else won.diagnostics),
            *stays_dense(plan),
            *_not_again(given, plan),
            *not_quantised(given, plan),
            *fitted(settings, won is not None and won.recovery is not None and bool(accuracies)),
        ),
        recovery=None if won is None else won.recovery,
        grouped=grouped_layers(plan),
        gathers=None if won is None else won.gathers,
        quantised=None if won is None else won.quantised,
        verification=verification,
        accuracy=accuracies,
        density=density,
        bench=timings,
        sizes=sizes,
    )
    return Result(pruned, plan, report)


def recovery_of(settings: Settings, plan: Plan | None = None) -> Recovery | None:
    """What the settings say of recovery; None for none. Raises UsageError.

    plan: one that was carried out before; with auto the recovery is that which it names.
    """
    if settings.recover == "none" or (settings.recover == "auto" and settings.data is None):
        return None
    from prunec.runtime.recovery.choice import chosen

    asked = settings.recover
    if plan is not None and asked == "auto":
        asked = plan.components.get("recovery", asked)
    return chosen(asked, settings.data is not None)


def _unmarked(plan: Plan) -> Plan:
    """The plan without the recovery that it was carried out with before, for this time's."""
    if "recovery" not in plan.components:
        return plan
    left = {key: value for key, value in plan.components.items() if key != "recovery"}
    return replace(plan, components=left)


def _not_again(before: Plan, after: Plan) -> Sequence[Diagnostic]:
    """A word where the plan names a recovery and the model has none."""
    if "recovery" not in before.components or "recovery" in after.components:
        return ()
    text = (
        f"the plan was carried out with recovery {before.components['recovery']}, this time "
        "without: weights are as sliced; --data recovers them"
    )
    return (Diagnostic("not-recovered", "", text, Severity.INFO),)


def fitted(settings: Settings, judged: bool) -> Sequence[Diagnostic]:
    """A word of warning where accuracy is that of the samples that weights were fitted to.

    judged: whether the accuracy of a recovered model was measured.
    """
    if not judged or settings.eval_data is not None:
        return ()
    text = (
        "accuracy is measured on the samples that the recovery was fitted to, so it flatters; "
        "--eval-data names others"
    )
    return (Diagnostic("fitted-samples", "", text, Severity.INFO),)


def _apart(path: Path) -> Path:
    """A place for a file of the same name that does not leave the stage."""
    folder = path.parent / "sliced"
    folder.mkdir(exist_ok=True)
    return folder / path.name


def _accuracies(
    subject: Subject, pruned: ir.Model, settings: Settings, progress: Progress
) -> tuple[Accuracy, Accuracy] | None:
    if settings.data is None and settings.eval_data is None and not settings.metrics:
        return None
    from prunec.runtime.accuracy import accuracy, report_data
    from prunec.runtime.inputs import model_inputs

    inputs = model_inputs(subject.model)
    data = report_data(settings.data, settings.eval_data, settings.metrics, inputs)
    if data is None:
        return None
    progress("measuring accuracy")
    dense, slim = (
        accuracy(
            model, data, settings.metrics, provider=settings.provider, threads=settings.threads
        )
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


def _require_speedup(timings: BenchResult, least: float | None) -> None:
    """The lower end of the interval counts: what noise could explain is no speed-up."""
    (ratio,) = timings.ratios
    if least is not None and ratio.low < least:
        raise NotFasterError(ratio.ratio, ratio.low, least)


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

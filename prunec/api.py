"""The public functions: what the command line does, from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from prunec.compiler.criterion import Criterion
from prunec.compiler.freedom import Freedom, frees_kernels
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.pairwise import PairwiseSolver
from prunec.compiler.plan import Plan
from prunec.compiler.problem import Solver
from prunec.compiler.recovery import Recovery
from prunec.compiler.spec import parse
from prunec.frontends import onnx as onnx_frontend
from prunec.given import (
    Metrics,
    Rules,
    Shapes,
    budget_of,
    criterion_of,
    data_of,
    grouping_of,
    metrics_of,
    opened,
    shapes_of,
    sources_of,
)
from prunec.passes.grouping import Grouping
from prunec.passes.options import Options, Override
from prunec.passes.pairwise import Objective
from prunec.passes.pairwise.specs import parse_objective, parse_solver
from prunec.passes.schedules import SCHEDULES, Schedule
from prunec.passes.worth import parse_worth
from prunec.passes.worth.worth import Worth
from prunec.runtime.compile import (
    Settings,
    compile_model,
    plan_for,
    plan_path,
    silent,
)
from prunec.runtime.data import DataSpec
from prunec.runtime.report import Result
from prunec.runtime.scores import Scores, compute
from prunec.runtime.subject import Source, open_model
from prunec.runtime.sweep.grid import parse_grid
from prunec.runtime.sweep.points import Sweep
from prunec.runtime.sweep.run import sweep as run_sweep
from prunec.runtime.sweep.stages import SweepSettings
from prunec.tools.plan_file import read_plan

if TYPE_CHECKING:
    from prunec.runtime.accuracy import Accuracy
    from prunec.runtime.latency.measure import Effort
    from prunec.runtime.latency.profile import Profile
    from prunec.runtime.latency.session import Profiled
    from prunec.runtime.quantize.job import QuantisedModel
    from prunec.runtime.verify import Verification


def load(source: Source | Any, example_inputs: Any = None) -> ir.Model:
    """Read a model: a path, bytes, ModelProto, onnx_ir.Model, gs.Graph, or a torch module.

    A torch.nn.Module needs example inputs: a tuple, or one tensor. Raises ModelError, UsageError.
    """
    if example_inputs is not None:
        from prunec.frontends.torch import from_torch

        module: Any = source
        several = isinstance(example_inputs, tuple)
        return from_torch(module, example_inputs if several else (example_inputs,))
    return onnx_frontend.load(source)


def prune(
    model: Source,
    budget: str | Sequence[str] | Mapping[str, float | str] = "",
    *,
    score: str | Criterion = "magnitude",
    scores: Scores | str | Path | None = None,
    objective: str | Objective = "separable",
    solver: str | Solver | PairwiseSolver = "auto",
    align: int | None = None,
    min_keep: int = 1,
    keep: str | Sequence[str] = (),
    only: str | Sequence[str] = (),
    overrides: Mapping[str, Override] | None = None,
    max_gap: float | None = None,
    exponent: float = 1.0,
    worth: str | Worth = "auto",
    schedule: str | Schedule = "one-shot",
    edge_multipliers: Mapping[str, float] | None = None,
    residual: bool = False,
    heads: bool = False,
    decouple: bool = False,
    kernel_positions: str = "none",
    gamma: float = 0.8,
    channels: bool = True,
    grouping: Grouping | int | str | Mapping[str, int] | None = None,
    quantize: str | None = None,
    quantize_exclude: Sequence[str] = (),
    shapes: Shapes | None = None,
    rules: Rules = (),
    data: DataSpec | str | None = None,
    recover: str | Recovery = "auto",
    eval_data: DataSpec | str | None = None,
    metric: Metrics = (),
    verify: bool = True,
    bench: bool = False,
    min_speedup: float | None = None,
    profile: Profile | str | Path | None = None,
    latency_model: str = "lut",
    provider: str = "cpu",
    threads: int = 1,
    batch: int | None = None,
    output: str | Path | None = None,
) -> Result:
    """Prune a model to a budget and prove the rewriting.

    budget: ``"flops=0.46,bytes=4MB"`` or ``{"flops": 0.46, "bytes": "4MB"}``. shapes: sizes of
    inputs with symbolic dimensions. residual: channels that a norm, softmax or mean runs over may
    leave; the result is then not the gated model, and is proven against one whose statistics run
    over the kept channels. heads: remove whole attention heads, not positions within heads.
    scores: what `prunec.scores` gave, or a file of it, instead of computing them; score is then
    what that says.
    objective: ``"pairwise"`` counts pairs of output and input channels; score, worth and exponent
    then have no say and solver is one of PAIRWISE_SOLVERS.
    decouple: what a residual branch writes, and what blocks read of a stream, need not be the same
    channels (with a pairwise objective).
    kernel_positions: ``"layer"`` lets rows and columns of convolution kernels leave,
    ``"per-filter"`` zeroes positions of single filters, which saves no time: channels may then cost
    1 / gamma of the budget, and what is counted without zeroed positions meets it. min_keep: 0
    lets whole residual branches vanish.
    grouping: grouped convolutions: a `Grouping`, or its `conv` alone: a number of groups, "auto",
    node name -> G or a JSON file of that. Without "auto" no budget is needed. channels: False
    leaves the budget to groups.
    quantize: a recipe for the result, see `quantise`; quantize_exclude: patterns of what stays
    float.
    profile: for budgets such as ``"latency=0.6"`` or ``"latency=8ms"``, what `prunec.profile` gave
    or wrote; without one it is measured now. latency_model: lut, m5, m6 or half-edge. provider,
    threads, batch: what models run on, and the size of symbolic first dimensions.
    data: for criteria that need it, and for accuracy where it has labels. eval_data: what accuracy
    is reported on instead. metric: what is reported, as for `prunec.evaluate`.
    rules: modules, their names or files, with RULES for operators that prunec does not know.
    recover: how weights win accuracy back after slicing: auto (least-squares where there is data),
    none, a specification or a component.
    align: None = min(8, max(1, size // 8)) per hyperedge. worth: what a hyperedge is worth as a
    whole, "auto" leaves it to the criterion. schedule: in which steps channels leave; in between
    the model is recovered and scored again. edge_multipliers: name -> how many times as dear its
    channels are. min_speedup: raise
    NotFasterError, and write nothing, unless measured to be so many times as fast. output: also
    write the model there, with the plan beside it. Needs onnxruntime unless ``verify=False``.
    Raises PrunecError.

    >>> import prunec
    >>> from prunec.tools.demo import DIGITS
    >>> result = prunec.prune(DIGITS, "flops=0.5", verify=False)
    >>> result.report.costs["flops"][1] <= result.report.budget["flops"]
    True
    """
    maximised = parse_objective(objective) if isinstance(objective, str) else objective
    options = Options(
        criterion=criterion_of(score) if isinstance(score, str) else score,
        solver=parse_solver(solver, maximised) if isinstance(solver, str) else solver,
        objective=maximised,
        gamma=gamma if kernel_positions == "per-filter" else None,
        align=align,
        min_keep=min_keep,
        keep=(keep,) if isinstance(keep, str) else tuple(keep),
        only=(only,) if isinstance(only, str) else tuple(only),
        overrides=overrides or {},
        max_gap=max_gap,
        exponent=exponent,
        worth=parse_worth(worth) if isinstance(worth, str) else worth,
        schedule=parse(schedule, SCHEDULES, "schedule") if isinstance(schedule, str) else schedule,
        multipliers=edge_multipliers or {},
        channels=channels,
        grouping=grouping_of(grouping),
    )
    settings = Settings(
        shapes=shapes_of(shapes),
        data=data_of(data),
        recover=recover,
        eval_data=data_of(eval_data),
        metrics=metrics_of(metric),
        verify=verify,
        bench=bench,
        min_speedup=min_speedup,
        freedom=Freedom(residual, heads, decouple, frees_kernels(kernel_positions)),
        rules=sources_of(rules),
        profile=profile,
        latency_model=latency_model,
        provider=provider,
        threads=threads,
        batch=batch,
        scores=scores,
        quantize=quantize,
        quantize_exclude=tuple(quantize_exclude),
    )
    subject = opened(model, settings)
    chosen = plan_for(subject, budget_of(budget), options, settings)
    out = None if output is None else Path(output)
    beside = None if out is None else plan_path(out)
    return compile_model(subject, chosen, settings, out, beside)


def plan(
    model: Source,
    budget: str | Sequence[str] = "",
    options: Options | None = None,
    settings: Settings | None = None,
) -> Plan:
    """Decide what to keep, without rewriting. Raises PrunecError.

    budget: "" where `Options.grouping` says all there is to decide.
    """
    settings = settings or Settings()
    subject = opened(model, settings)
    return plan_for(subject, budget, options or Options(), settings)


def scores(
    model: Source,
    score: str | Criterion = "magnitude",
    *,
    data: DataSpec | str | None = None,
    settings: Settings | None = None,
) -> Scores:
    """Score every channel group once, for any number of budgets; raises PrunecError.

    The result goes into `prune(scores=...)`, or into `Settings.scores` for `plan` and `sweep`, and
    `save` writes it. data: instead of that of the settings, whose freedom, shapes and rules must
    be those of the plans to come.

    >>> import prunec
    >>> from prunec.tools.demo import DIGITS
    >>> found = prunec.scores(DIGITS, "magnitude{p=1}")
    >>> prunec.prune(DIGITS, "flops=0.5", scores=found, verify=False).plan.components["criterion"]
    'magnitude{p=1}'
    """
    settings = settings or Settings()
    if data is not None:
        settings = replace(settings, data=data_of(data))
    options = Options(criterion=criterion_of(score) if isinstance(score, str) else score)
    return compute(opened(model, settings), options, settings, silent)[1]


def apply(model: Source, plan: Plan | str | Path, settings: Settings | None = None) -> Result:
    """Rewrite a model by a plan, or its file; the same model and plan give the same bytes."""
    settings = settings or Settings()
    made = plan if isinstance(plan, Plan) else read_plan(Path(plan))
    subject = opened(model, replace(settings, freedom=made.freedom))
    return compile_model(subject, made, settings)


def sweep(
    model: Source,
    budget: str | Sequence[str] | Mapping[str, float | str | Sequence[float | str]],
    options: Options | None = None,
    settings: Settings | None = None,
    how: SweepSettings | None = None,
) -> Sweep:
    """Score once, decide for many budgets: ``"flops=0.9..0.3:0.05,params=0.8"``.

    A mapping may hold lists: ``{"flops": [0.9, 0.7]}``. settings: data measures accuracy, bench
    latency; verify is for models that are written. how: the folder in which results are found
    again, workers, what to write. Raises PrunecError.

    >>> import prunec
    >>> from prunec.tools.demo import DIGITS
    >>> found = prunec.sweep(DIGITS, "flops=0.8..0.4:0.2")
    >>> [point.label for point in found.points]
    ['flops=0.8', 'flops=0.6', 'flops=0.4']
    """
    settings = settings or Settings()
    grid = parse_grid(budget)
    return run_sweep(opened(model, settings), grid, options or Options(), settings, how)


def plot(found: Sweep, folder: str | Path) -> tuple[Path, ...]:
    """Draw a sweep into ``sweep.png`` and ``sweep.svg`` of a folder. Needs matplotlib."""
    from prunec.tools.plot import draw

    return draw(found, Path(folder))


def inspect(
    model: Source,
    shapes: Shapes | None = None,
    *,
    residual: bool = False,
    heads: bool = False,
    decouple: bool = False,
    kernel_positions: str = "none",
    rules: Rules = (),
) -> Hypergraph:
    """Hyperedges, exact costs and diagnostics of a model; `coverage` says what holds the rest."""
    freedom = Freedom(residual, heads, decouple, frees_kernels(kernel_positions))
    return open_model(model, shapes_of(shapes), freedom=freedom, rules=sources_of(rules)).graph


def profile(
    model: Source,
    output: str | Path | None = None,
    *,
    provider: str = "cpu",
    threads: int = 1,
    batch: int | None = None,
    shapes: Shapes | None = None,
    options: Options | None = None,
    effort: Effort | None = None,
    half_edge: bool = False,
    validate: int = 0,
    rules: Rules = (),
) -> Profiled:
    """Measure what a model's kernels take here, for latency budgets.

    output: a file that keeps it; what it has already is not measured again. options: which kept
    counts are allowed, as for `plan`. effort: how much to measure. half_edge: time each hyperedge
    at half its channels too. validate: how many random slim models to hold the prediction against.
    Raises PrunecError.
    """
    from prunec.runtime.latency.kernels import Where
    from prunec.runtime.latency.measure import Effort
    from prunec.runtime.latency.session import Task, carry_out

    subject = open_model(model, shapes_of(shapes), rules=sources_of(rules))
    task = Task(
        where=Where(provider, threads),
        effort=effort or Effort(),
        options=options or Options(),
        batch=batch,
        rules=sources_of(rules),
        halves=half_edge,
        validate=validate,
    )
    return carry_out(subject, task, None if output is None else Path(output))


def verify(
    dense: Source,
    pruned: Source,
    plan: Plan,
    shapes: Shapes | None = None,
    *,
    rules: Rules = (),
    retrained: bool | None = None,
) -> Verification:
    """Run the oracle alone: is `pruned` what `plan` makes of `dense`?

    retrained: the numbers of its weights were changed since, nothing else; None: what the plan
    says of recovery.
    """
    changed = "recovery" in plan.components if retrained is None else retrained
    subject = open_model(dense, shapes_of(shapes), freedom=plan.freedom, rules=sources_of(rules))
    given = onnx_frontend.load(pruned)
    if "quantize" in plan.components:
        from prunec.runtime.quantize.verify import verify_quantised

        return verify_quantised(subject, plan, given)
    if plan.groups:
        from prunec.runtime.regroup.prove import verify_grouped

        return verify_grouped(subject, plan, given, retrained=changed)
    if changed:
        from prunec.runtime.recovery.prove import verify_changed

        return verify_changed(subject, plan, given)
    from prunec.runtime.verify import verify as run

    return run(subject, plan, given)


def quantise(
    model: Source,
    recipe: str = "w8a8",
    data: DataSpec | str | None = None,
    *,
    exclude: Sequence[str] = (),
    eval_data: DataSpec | str | None = None,
    metric: Metrics = (),
    shapes: Shapes | None = None,
    verify: bool = True,
    bench: bool = False,
    provider: str = "cpu",
    threads: int = 1,
    output: str | Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> QuantisedModel:
    """Quantise a model: ``"w8a8"``, ``"w4a8{rounding=gptq}"``, ``"weights=int4"``, or a file.

    data: unlabelled samples to calibrate with, where the recipe needs them. exclude: patterns of
    nodes and weights that stay float. eval_data, metric: what accuracy is measured on, before and
    after. output: also write the model there. The result has the model, what was proved, and which
    kernels onnxruntime runs. Needs onnxruntime. Raises PrunecError.

    >>> import prunec
    >>> from prunec.tools.demo import DIGITS
    >>> dict(prunec.quantise(DIGITS, "weights=int8").report.activation_bits)
    {}
    """
    from prunec.runtime.quantize.job import quantise_model

    settings = Settings(
        shapes=shapes_of(shapes),
        data=data_of(data),
        eval_data=data_of(eval_data),
        metrics=metrics_of(metric),
        verify=verify,
        bench=bench,
        provider=provider,
        threads=threads,
        quantize_exclude=tuple(exclude),
    )
    out = None if output is None else Path(output)
    return quantise_model(model, recipe, settings, out, progress)


def evaluate(
    model: Source,
    data: DataSpec | str | Path,
    metric: Metrics = (),
    *,
    provider: str = "cpu",
    threads: int = 1,
    batch: int | None = None,
) -> Accuracy:
    """Accuracy of a model on labelled data, or what the user's own metric says; streamed.

    metric: ``"top1"``, ``"top5"``, ``"module:function"``, a function or class, or several. A
    function gets a batch's outputs by name and its labels (None without) and returns (sum, count);
    a class has ``update(outputs, labels)`` and ``result()``. Higher is better. Default: top-1 and
    top-5.
    batch: samples at once, for a symbolic first dimension. Raises PrunecError.

    >>> import prunec
    >>> from prunec.tools.demo import DIGITS, IMAGES
    >>> prunec.evaluate(DIGITS, IMAGES, "top1").samples
    450
    """
    from prunec.runtime.evaluate import evaluate as run

    spec = data_of(data if isinstance(data, DataSpec) else str(data))
    assert spec is not None
    source = model if isinstance(model, str | Path | bytes) else onnx_frontend.load(model)
    metrics = metrics_of(metric)
    return run(source, spec, metrics, provider=provider, threads=threads, batch=batch).accuracy

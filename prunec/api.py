"""The public functions: what the command line does, from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from prunec.compiler.criterion import Criterion
from prunec.compiler.errors import MissingDependencyError, UsageError
from prunec.compiler.extensions import Source as RulesSource
from prunec.compiler.extensions import extended
from prunec.compiler.freedom import Freedom, frees_kernels
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.pairwise import PairwiseSolver
from prunec.compiler.plan import Plan
from prunec.compiler.problem import Solver
from prunec.compiler.recovery import Recovery
from prunec.compiler.spec import parse
from prunec.frontends import onnx as onnx_frontend
from prunec.passes.criteria import CRITERIA
from prunec.passes.grouping import Grouping
from prunec.passes.options import Options, Override
from prunec.passes.pairwise import Objective
from prunec.passes.pairwise.specs import parse_objective, parse_solver
from prunec.passes.regroup.asked import parse_groups
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
from prunec.runtime.subject import Source, Subject, open_model
from prunec.runtime.sweep.grid import parse_grid
from prunec.runtime.sweep.points import Sweep
from prunec.runtime.sweep.run import sweep as run_sweep
from prunec.runtime.sweep.stages import SweepSettings
from prunec.tools.plan_file import read_plan

if TYPE_CHECKING:
    import torch

    from prunec.passes.criteria.gate import Gate
    from prunec.passes.masks.masks import Masks
    from prunec.runtime.accuracy import Accuracy
    from prunec.runtime.gates.train import Pruned
    from prunec.runtime.latency.measure import Effort
    from prunec.runtime.latency.profile import Profile
    from prunec.runtime.latency.session import Profiled
    from prunec.runtime.quantize.job import QuantisedModel
    from prunec.runtime.torch_view import TorchView
    from prunec.runtime.training.aware import Aware
    from prunec.runtime.training.finetune import FineTuned
    from prunec.runtime.training.settings import Recipe, TrainSettings
    from prunec.runtime.verify import Verification

Shapes = Mapping[str, Sequence[int]]
Rules = RulesSource | Sequence[RulesSource]
Metrics = str | Callable[..., Any] | Sequence[str | Callable[..., Any]]


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
        criterion=_criterion(score) if isinstance(score, str) else score,
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
        grouping=_grouping(grouping),
    )
    settings = Settings(
        shapes=_shapes(shapes),
        data=_data(data),
        recover=recover,
        eval_data=_data(eval_data),
        metrics=_metrics(metric),
        verify=verify,
        bench=bench,
        min_speedup=min_speedup,
        freedom=Freedom(residual, heads, decouple, frees_kernels(kernel_positions)),
        rules=_sources(rules),
        profile=profile,
        latency_model=latency_model,
        provider=provider,
        threads=threads,
        batch=batch,
        scores=scores,
        quantize=quantize,
        quantize_exclude=tuple(quantize_exclude),
    )
    subject = _open(model, settings)
    chosen = plan_for(subject, _budget(budget), options, settings)
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
    subject = _open(model, settings)
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
        settings = replace(settings, data=_data(data))
    options = Options(criterion=_criterion(score) if isinstance(score, str) else score)
    return compute(_open(model, settings), options, settings, silent)[1]


def apply(model: Source, plan: Plan | str | Path, settings: Settings | None = None) -> Result:
    """Rewrite a model by a plan, or its file; the same model and plan give the same bytes."""
    settings = settings or Settings()
    made = plan if isinstance(plan, Plan) else read_plan(Path(plan))
    subject = _open(model, replace(settings, freedom=made.freedom))
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
    return run_sweep(_open(model, settings), grid, options or Options(), settings, how)


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
    return open_model(model, _shapes(shapes), freedom=freedom, rules=_sources(rules)).graph


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

    subject = open_model(model, _shapes(shapes), rules=_sources(rules))
    task = Task(
        where=Where(provider, threads),
        effort=effort or Effort(),
        options=options or Options(),
        batch=batch,
        rules=_sources(rules),
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
    subject = open_model(dense, _shapes(shapes), freedom=plan.freedom, rules=_sources(rules))
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
        shapes=_shapes(shapes),
        data=_data(data),
        eval_data=_data(eval_data),
        metrics=_metrics(metric),
        verify=verify,
        bench=bench,
        provider=provider,
        threads=threads,
        quantize_exclude=tuple(exclude),
    )
    out = None if output is None else Path(output)
    return quantise_model(model, recipe, settings, out, progress)


def torch_view(model: Source) -> TorchView:
    """A model as a trainable torch.nn.Module; `to_model()` puts the weights back by name.

    Raises ModelError, naming the node, where an operator cannot be run (If, Loop, Scan). Needs
    torch.
    """
    try:
        from prunec.runtime.torch_view import torch_view as view
    except ImportError as error:
        raise MissingDependencyError(
            "the torch view needs torch; install it with pip install 'prunec[torch]'"
        ) from error
    return view(model)


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

    spec = _data(data if isinstance(data, DataSpec) else str(data))
    assert spec is not None
    source = model if isinstance(model, str | Path | bytes) else onnx_frontend.load(model)
    metrics = _metrics(metric)
    return run(source, spec, metrics, provider=provider, threads=threads, batch=batch).accuracy


def apply_to(
    plan: Plan,
    module: torch.nn.Module,
    example_inputs: Any = None,
    *,
    model: Source | None = None,
    weights: Source | None = None,
    in_place: bool = False,
) -> torch.nn.Module:
    """Slice a torch module by a plan: for people with their own training code.

    Returns a copy, unless `in_place`: parameters, buffers and the attributes that tell sizes are
    those of the pruned network. The plan is one for ``prunec.load(module, example_inputs)``, whose
    weights have the names of the module's; for another export give that dense model as `model`, and
    weights are found by their contents. example_inputs, a tensor or a tuple: the sliced module must
    give the outputs of the pruned model for them; without, nothing is run. weights: a pruned model,
    recovered or fine-tuned, whose weights the module gets. Optimizers are left alone: make a new
    one. Needs torch; raises PlanError, VerificationError.
    """
    from prunec.runtime.torch_modules import apply_to as run

    dense = None if model is None else onnx_frontend.load(model)
    slim = None if weights is None else onnx_frontend.load(weights)
    return run(plan, module, example_inputs, model=dense, weights=slim, in_place=in_place)


def _metrics(metric: Metrics) -> tuple[str | Callable[..., Any], ...]:
    if isinstance(metric, str):
        from prunec.tools.settings import metrics_of

        return metrics_of((metric,))
    return tuple(metric) if isinstance(metric, Sequence) else (metric,)


def finetune(
    model: Source,
    data: DataSpec | str,
    teacher: Source | None = None,
    recipe: Recipe | None = None,
    settings: TrainSettings | None = None,
    *,
    plan: Plan | str | Path | None = None,
    eval_data: DataSpec | str | None = None,
    quantize: str | Aware | None = None,
    output: str | Path | None = None,
) -> FineTuned:
    """Train a model's weights towards a teacher's outputs, by labels, or both.

    recipe: what is learned and which samples are held out; settings: how. plan: of the pruned
    model, where `Recipe.features` names values that lost channels. eval_data: held-out samples
    instead of a share of `data`. quantize: a recipe such as "w4a4", or that with how scales come
    about and when quantisation starts: train the model as its integers compute; the result is
    quantised. output: also write the model there, with its history beside it.
    The result's `model` has the weights of the best epoch; under `torchrun`, in every process.
    Needs torch and accelerate. Raises PrunecError.
    """
    from prunec.runtime.training.settings import Recipe, TrainSettings

    try:
        from prunec.passes.quantize.recipe import parse_recipe
        from prunec.runtime.training.aware import Aware
        from prunec.runtime.training.finetune import Work
        from prunec.runtime.training.finetune import finetune as run
    except ImportError as error:
        raise MissingDependencyError(
            "training needs torch and accelerate; install them with pip install 'prunec[train]'"
        ) from error
    made = plan if plan is None or isinstance(plan, Plan) else read_plan(Path(plan))
    samples = _data(data)
    assert samples is not None
    work = Work(model, samples, teacher, made, _data(eval_data))
    aware = Aware(parse_recipe(quantize)) if isinstance(quantize, str) else quantize
    found = run(work, recipe or Recipe(), settings or TrainSettings(), aware=aware)
    if output is not None:
        found.save(Path(output))
    return found


def train(
    model: Source,
    budget: str | Sequence[str] | Mapping[str, float | str],
    data: DataSpec | str,
    by: str | Gate | Masks = "gate",
    *,
    recipe: Recipe | None = None,
    training: TrainSettings | None = None,
    options: Options | None = None,
    settings: Settings | None = None,
    quantize: str | Aware | None = None,
    output: str | Path | None = None,
    save_trained: str | Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Pruned:
    """Prune while training: gates or masks close channels until the budget is met.

    by: a row of the components "trained", with options: ``"gate{ramp=0.5}"``,
    ``"masks{schedule=stepwise}"``. recipe, training: what the weights learn, and how, beside the
    dense model's outputs. options: how the solver chooses in the end (align, keep ...). quantize: a
    recipe such as "w4a4", or an `Aware`: round weights and activations while channels close; the
    pruned model is quantised, with the scales of the training. output: also write the pruned model
    there, with the plan beside it; save_trained: the dense model with the trained weights, which
    the plan belongs to. Needs ``prunec[train]``. Raises PrunecError.
    """
    try:
        from prunec.passes.quantize.recipe import parse_recipe
        from prunec.passes.trained import TRAINED
        from prunec.runtime.gates.train import Lesson, Lookout, Targets
        from prunec.runtime.gates.train import train as run
        from prunec.runtime.training.aware import Aware
        from prunec.runtime.training.settings import Recipe, TrainSettings
    except ImportError as error:
        raise MissingDependencyError(
            f"training needs torch and accelerate: pip install 'prunec[train]' ({error})"
        ) from error
    settings = replace(settings or Settings(), data=_data(data))
    lesson = Lesson(
        by=parse(by, TRAINED, "by") if isinstance(by, str) else by,
        budget=_budget(budget),
        recipe=recipe or Recipe(),
        training=training or TrainSettings(),
        options=options or Options(),
        settings=settings,
        aware=Aware(parse_recipe(quantize)) if isinstance(quantize, str) else quantize,
    )
    out = None if output is None else Path(output)
    beside = None if out is None else plan_path(out)
    kept = None if save_trained is None else Path(save_trained)
    return run(_open(model, settings), lesson, Targets(out, beside, kept), Lookout(progress))


def _open(model: Source, settings: Settings) -> Subject:
    return open_model(
        model,
        settings.shapes,
        strict=settings.strict,
        freedom=settings.freedom,
        rules=settings.rules,
    )


def _sources(rules: Rules) -> tuple[RulesSource, ...]:
    return (rules,) if isinstance(rules, RulesSource) else tuple(rules)


def _budget(budget: str | Sequence[str] | Mapping[str, float | str]) -> str | Sequence[str]:
    if isinstance(budget, Mapping):
        return [f"{resource}={amount}" for resource, amount in budget.items()]
    if not isinstance(budget, str | Sequence):
        raise UsageError(f"a budget is text such as 'flops=0.46' or a dict, not {budget!r}")
    return budget


def _grouping(given: Grouping | int | str | Mapping[str, int] | None) -> Grouping:
    if isinstance(given, Grouping):
        return given
    return Grouping(conv=parse_groups(given) if isinstance(given, str) else given)


def _criterion(text: str) -> Criterion:
    rows = extended(CRITERIA, "prunec.criteria")
    made: Criterion = parse(text, rows, "criterion")
    return made


def _data(data: DataSpec | str | None) -> DataSpec | None:
    if isinstance(data, str | Path):
        return DataSpec(str(data))
    if data is not None and not isinstance(data, DataSpec):
        raise UsageError(
            f"data is a path, 'module:function' or a prunec.DataSpec, not a {type(data).__name__}"
        )
    return data


def _shapes(shapes: Shapes | None) -> dict[str, tuple[int, ...]]:
    return {name: tuple(int(n) for n in shape) for name, shape in (shapes or {}).items()}

"""Quantisation as a step of the main job, and by itself: carried out, checked, reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from prunec.compiler.diagnostics import Diagnostic, Severity
from prunec.compiler.errors import VerificationError
from prunec.compiler.plan import Plan
from prunec.passes.quantize.bits import is_auto, parse_auto, settled
from prunec.passes.quantize.file_bytes import file_bytes
from prunec.passes.quantize.recipe import Recipe, parse_recipe
from prunec.runtime.inputs import bound_inputs, random_feeds
from prunec.runtime.quantize.again import COMPONENT, FLOAT_BYTES, marks
from prunec.runtime.quantize.joint import edge_names
from prunec.runtime.quantize.kernels import kernels
from prunec.runtime.quantize.prove import prove
from prunec.runtime.quantize.quantise import Conditions, Quantised, quantise
from prunec.runtime.quantize.report import QuantisationReport, report_of
from prunec.runtime.recovery.recover import Running
from prunec.runtime.session import make_session
from prunec.runtime.subject import Subject, reopened
from prunec.runtime.verify import SEED, Check, Verification

if TYPE_CHECKING:
    from prunec.runtime.compile import Settings

APART = 0.05  # root of squares, relative: more than two runtimes' roundings make


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A quantised model with its checks and its report."""

    done: Quantised
    checks: tuple[Check, ...]
    report: QuantisationReport
    diagnostics: tuple[Diagnostic, ...]


def recipe_of(
    text: str | Recipe, exclude: Sequence[str] = (), bits: Mapping[str, int] | None = None
) -> Recipe:
    """A recipe from its text, with patterns of what stays float. Raises UsageError.

    bits: those that a plan settled, where the recipe leaves them open (auto).
    """
    if isinstance(text, Recipe):
        found = text
    elif is_auto(text):
        found = settled(parse_auto(text), bits or {})
    else:
        found = parse_recipe(text)
    return replace(found, exclude=(*found.exclude, *exclude))


def quantised(
    model: ir.Model,
    recipe: Recipe,
    conditions: Conditions,
    *,
    verify: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Step:
    """Quantise a model, prove what can be proved, and see which kernels run.

    Raises VerificationError where a check fails, and what `quantise` raises.
    """
    done = quantise(model, recipe, conditions, progress)
    checks: tuple[Check, ...] = ()
    if verify:
        progress("verifying")
        nearest = done.recipe.nearest
        checks = prove(model, done.float_model, done.facts, done.model, nearest=nearest)
        for check in checks:
            if not check.passed:
                raise VerificationError(f"verification failed: {check.name}: {check.detail}")
    progress("looking at kernels")
    running = conditions.running
    ran = kernels(done.model, provider=running.provider, threads=running.threads)
    report = report_of(done, ran)
    notes = (*_kernel_notes(done, report, running), *_float_notes(report))
    return Step(done, checks, report, notes)


def quantised_step(
    subject: Subject,
    plan: Plan,
    model: ir.Model,
    settings: Settings,
    verification: Verification | None,
    progress: Callable[[str], None],
) -> tuple[Step, Plan, Verification | None]:
    """The same of a model that a plan made; plan and verification say so afterwards.

    The plan's bytes are those of the quantised model, and its bits those of every weight.
    """
    assert settings.quantize is not None
    recipe = recipe_of(settings.quantize, settings.quantize_exclude, plan.bits)
    slim = reopened(model, subject)
    conditions = Conditions(
        subject.shapes,
        settings.data,
        Running(settings.provider, settings.threads),
        edge_names(slim.graph),
        settings.trained and settings.trained.sliced(subject.graph, plan.mask(subject.graph)),
    )
    step = quantised(model, recipe, conditions, verify=verification is not None, progress=progress)
    if verification is not None:
        verification = replace(verification, checks=(*verification.checks, *step.checks))
    return step, _marked(subject, plan, step), verification


def _marked(subject: Subject, plan: Plan, step: Step) -> Plan:
    """The plan with what was done."""
    own = reopened(step.done.model, subject)
    counted = {weight.value for weight in own.graph.weights if weight.counted}
    costs, options = dict(plan.costs), dict(plan.options)
    if "bytes" in costs:
        if not plan.bits:
            options[FLOAT_BYTES] = costs["bytes"][1]
        costs["bytes"] = (costs["bytes"][0], file_bytes(step.done.model, counted))
    text = plan.components.get(COMPONENT)
    if text is None:
        text = str(step.done.recipe)
        options |= marks(step.done.recipe)
    return replace(
        plan,
        bits={**plan.bits, **step.done.bits},
        costs=costs,
        options=options,
        components={**plan.components, COMPONENT: text},
    )


def _kernel_notes(
    done: Quantised, report: QuantisationReport, running: Running
) -> Sequence[Diagnostic]:
    """What onnxruntime does not run in integers, and where its kernels compute something else."""
    notes = []
    found = report.kernels
    assert found is not None
    if found.unfused and done.activations:
        some = ", ".join(found.unfused[:3]) + (", ..." if len(found.unfused) > 3 else "")
        text = (
            f"onnxruntime has no integer kernel for {len(found.unfused)} quantised layers "
            f"({some}): they run in float on dequantised numbers"
        )
        notes.append(Diagnostic("unfused", "", text, Severity.INFO))
    apart, own = _apart(done, running)
    if apart > max(APART, 2 * own):
        text = (
            f"onnxruntime's fused kernels are {apart:.1%} from what the model says (its nodes one "
            f"by one; quantising itself moves outputs by {own:.1%}), on random inputs: compare "
            "accuracy with `prunec eval`, or keep the nodes in question float"
        )
        notes.append(Diagnostic("kernels-differ", "", text, Severity.WARNING))
    return notes


def _apart(done: Quantised, running: Running) -> tuple[float, float]:
    """Relative distance of the fused model from the plain one, and of that from the float one."""
    feeds = random_feeds(bound_inputs(done.float_model, done.facts), SEED)
    runs = [
        make_session(model, threads=running.threads, optimise=optimise).run(feeds)
        for model, optimise in (
            (done.float_model, False),
            (done.model, False),
            (done.model, True),
        )
    ]
    return _distance(runs[1], runs[2]), _distance(runs[0], runs[1])


def _distance(first: Sequence[Any], second: Sequence[Any]) -> float:
    worst = 0.0
    for a, b in zip(first, second, strict=True):
        if not isinstance(a, np.ndarray) or a.dtype.kind != "f" or np.shape(a) != np.shape(b):
            continue
        x, y = a.astype(np.float64), np.asarray(b).astype(np.float64)
        if np.isfinite(x).all() and np.isfinite(y).all():
            worst = max(worst, float(np.linalg.norm(x - y)) / max(float(np.linalg.norm(x)), 1e-30))
    return worst


def _float_notes(report: QuantisationReport) -> Sequence[Diagnostic]:
    """What was left alone because it was quantised before."""
    if not report.kept:
        return ()
    text = f"{report.kept} nodes arrived quantised and stay as they are"
    return (Diagnostic("came-quantised", "", text, Severity.INFO),)

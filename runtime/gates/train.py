"""Training with gates or masks to a budget, and the pruned model that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.frontends.onnx import save
from prunec.passes.criteria.gate import Gate
from prunec.passes.gates.goal import Goal, goal_of
from prunec.passes.masks.masks import Masks
from prunec.passes.options import Options
from prunec.passes.pipeline import decide, limits_of, plan_of
from prunec.runtime.compile import (
    Settings,
    compile_model,
    external_like,
    priced,
    with_rules,
)
from prunec.runtime.gates.masked import train_masks
from prunec.runtime.gates.run import train_gates
from prunec.runtime.gates.session import Gated, Session, open_session
from prunec.runtime.inputs import model_inputs
from prunec.runtime.report import Result
from prunec.runtime.stage import staged
from prunec.runtime.subject import Subject, open_model
from prunec.runtime.training.augment import augmenter, parse_augmentations
from prunec.runtime.training.aware import Aware
from prunec.runtime.training.fit import Extras
from prunec.runtime.training.history import Epoch, History
from prunec.runtime.training.reading import first_batch
from prunec.runtime.training.settings import Recipe, TrainSettings

# What criterion `gate` says of its own training, and `Lesson` elsewhere.
SETTLED = ("steps", "batch", "labels", "seed", "learning_rate", "train_weights")


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is trained. by: gates or masks; the weights learn with both. options: how the solver
    chooses in the end; its criterion has no say. settings: how the result is proven and measured.
    aware: weights and activations are rounded while channels close, as the result will be.
    """

    by: Gate | Masks
    budget: str | Sequence[str]
    recipe: Recipe = field(default_factory=Recipe)
    training: TrainSettings = field(default_factory=TrainSettings)
    options: Options = field(default_factory=Options)
    settings: Settings = field(default_factory=Settings)
    aware: Aware | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """Where files go, or None. trained: the dense model with trained weights."""

    pruned: Path | None = None
    plan: Path | None = None
    trained: Path | None = None


@dataclass(frozen=True, slots=True)
class Lookout:
    """Who is told of progress: texts for a status line, and each epoch."""

    progress: Callable[[str], None] = lambda text: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None


@dataclass(frozen=True, slots=True, eq=False)
class Pruned:
    """trained: the dense model with trained weights, to which the plan belongs. result: what the
    plan makes of it; None in processes that do not write. record: what the plan keeps of the
    training, with the cost that was reached before the solver was asked, over the budget.
    """

    trained: ir.Model
    result: Result | None
    history: History
    record: Mapping[str, Any]


def train(
    subject: Subject, lesson: Lesson, targets: Targets | None = None, lookout: Lookout | None = None
) -> Pruned:
    """Train the dense model under gates or masks until the budget is met, and cut it by them.

    The plan belongs to the trained dense model, which has the analysed form of the given one (calls
    of functions are expanded). Raises PrunecError; what was trained is kept where proof fails.
    """
    targets, lookout = targets or Targets(), lookout or Lookout()
    if lesson.settings.data is None:
        raise UsageError("training needs data; give it with --data")
    by = _settled(lesson.by)
    timed, priced_by = priced(subject, lesson.budget, lesson.options, lesson.settings)
    options = replace(lesson.options, criterion=by)
    goal = goal_of(timed.graph, limits_of(timed.graph, lesson.budget), options)
    lookout.progress("reading models and data")
    session = open_session(
        subject,
        lesson.settings.data,
        lesson.recipe,
        lesson.training,
        weights=True,
        aware=lesson.aware,
    )
    found = _run(session, goal, by, lesson, lookout)
    trained = session.view.to_model()
    result = None
    if session.machine.first:
        lesson = replace(lesson, settings=_quantising(lesson, session))
        result = _cut(subject, trained, goal, found, lesson, {**priced_by, **found.record}, targets)
    session.machine.close()
    return Pruned(trained, result, found.history, found.record)


def _settled(by: Gate | Masks) -> Gate | Masks:
    """Gates whose training is said elsewhere. Raises UsageError where it is said twice."""
    if isinstance(by, Masks):
        return by
    for key in SETTLED:
        if getattr(by, key) != getattr(Gate(), key):
            raise UsageError(f"gate: {key} is an option of the training here, not of the gates")
    return replace(by, train_weights=True)


def _run(session: Session, goal: Goal, by: Gate | Masks, lesson: Lesson, lookout: Lookout) -> Gated:
    chain = parse_augmentations(lesson.recipe.augment)
    extras = Extras(
        augment=augmenter(chain, model_inputs(session.subject.model)) if chain else None,
        on_epoch=lookout.on_epoch if session.machine.first else lambda epoch: None,
        identity=(
            *(by, lesson.recipe, lesson.settings.data, lesson.budget, session.subject.digest),
            *(() if lesson.aware is None else lesson.aware.identity),
        ),
        progress=lookout.progress,
    )
    if isinstance(by, Masks):
        return train_masks(session, goal, by, extras)
    by = replace(by, seed=session.settings.seed)
    return train_gates(session, goal, by, extras)


def _quantising(lesson: Lesson, session: Session) -> Settings:
    """Settings with which the result gets the scales that were trained, where any were."""
    if session.conversion is None:
        return lesson.settings
    trained = session.conversion.trained(first_batch(session.data).feeds)
    return replace(
        lesson.settings,
        quantize=session.conversion.survey.recipe,
        quantize_exclude=(),
        trained=trained,
    )


def _cut(
    subject: Subject,
    trained: ir.Model,
    goal: Goal,
    found: Gated,
    lesson: Lesson,
    record: Mapping[str, Any],
    targets: Targets,
) -> Result:
    """Write the trained model, choose by what is open, and rewrite."""
    # Accuracy on what was trained with says nothing: other data, or none.
    settings, source = replace(lesson.settings, data=None), trained
    if settings.eval_data is None:
        settings = replace(settings, metrics=())
    if targets.trained is not None:
        with staged([targets.trained]) as stage:
            save(trained, stage[targets.trained], external=external_like(subject.source))
    dense = open_model(
        source if targets.trained is None else targets.trained,
        settings.shapes,
        strict=settings.strict,
        freedom=settings.freedom,
        rules=settings.rules,
    )
    assert goal.options is not None
    choice = decide(goal.graph, found.openness, goal.limits, goal.options)
    plan = plan_of(goal.graph, choice, goal.limits, goal.options, dense.digest)
    plan = with_rules(dense, replace(plan, options={**plan.options, **record}))
    return compile_model(dense, plan, settings, targets.pruned, targets.plan)

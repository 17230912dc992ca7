"""Fine-tuning of a pruned model: by a teacher's outputs, by labels, or both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir
from torch import Tensor

from prunec.compiler.errors import DataError, TrainingError
from prunec.compiler.plan import Plan
from prunec.frontends.digest import graph_digest
from prunec.frontends.onnx import load, save
from prunec.runtime.data import DataSpec
from prunec.runtime.grouped import moved_axes
from prunec.runtime.inputs import InputSpec, model_inputs
from prunec.runtime.stage import staged, write_text
from prunec.runtime.subject import Source, open_model
from prunec.runtime.torch_view import TorchView, torch_view
from prunec.runtime.training.augment import augmenter, parse_augmentations
from prunec.runtime.training.aware import Aware
from prunec.runtime.training.batch import Batch, Shard
from prunec.runtime.training.calibration import enough
from prunec.runtime.training.checked import CheckedLabels
from prunec.runtime.training.conversion import Conversion, in_opset
from prunec.runtime.training.evaluate import Judge, judge_of
from prunec.runtime.training.fit import Extras, fit
from prunec.runtime.training.history import Epoch, History
from prunec.runtime.training.hooks import OnStep, Stateful
from prunec.runtime.training.losses import Feature, Loss, Objective, flat_logits
from prunec.runtime.training.machine import Machine
from prunec.runtime.training.optimizers import Group
from prunec.runtime.training.pairing import (
    check_inputs,
    find_features,
    own_outputs,
    paired_outputs,
    require_same_groups,
)
from prunec.runtime.training.reading import Divided, Reading, divided, first_batch
from prunec.runtime.training.samples import Samples, steps_of_epoch
from prunec.runtime.training.settings import Recipe, TrainSettings
from prunec.runtime.training.teacher import Teacher
from prunec.runtime.training.trial import (
    check_same_shapes,
    few,
    fixed_batch,
    freed,
    run,
    takes_any_batch,
)

SMALL = 8  # a fixed batch below has too few samples for statistics of norms


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """Models and data. plan: what made the model of the teacher; needed for features only.
    evaluation: samples to choose the best epoch by, instead of a share of `data`.
    """

    model: Source
    data: DataSpec
    teacher: Source | None = None
    plan: Plan | None = None
    evaluation: DataSpec | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """labelled: whether labels had a say. notes: what was done otherwise than asked. diverged: why
    training ended early, if it did; the weights are then those of the best epoch before. first:
    whether this is the process that writes and prints.
    """

    model: ir.Model
    history: History
    labelled: bool
    notes: tuple[str, ...] = ()
    diverged: TrainingError | None = None
    first: bool = True

    def save(self, output: Path, draw: Callable[[History, Path], None] | None = None) -> None:
        """Write the model, its history beside it and, with `draw`, a picture; all or nothing.

        Only the first process writes. Raises OutputError.
        """
        if not self.first:
            return
        history, picture = beside(output)
        with staged([output, history, *([picture] if draw else [])]) as stage:
            save(self.model, stage[output])
            write_text(stage[history], json.dumps(self.history.to_dict(), indent=1) + "\n")
            if draw is not None:
                draw(self.history, stage[picture])


def beside(output: Path) -> tuple[Path, Path]:
    """The files of the history and of its picture, for a model's.

    >>> [path.name for path in beside(Path("net.onnx"))]
    ['net.history.json', 'net.history.png']
    """
    stem = output.name.removesuffix(".onnx")
    return output.with_name(stem + ".history.json"), output.with_name(stem + ".history.png")


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told of progress: texts for a status line, and each epoch."""

    progress: Callable[[str], None] = lambda text: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None


def finetune(
    work: Work,
    recipe: Recipe,
    settings: TrainSettings,
    watcher: Watcher | None = None,
    aware: Aware | None = None,
) -> FineTuned:
    """Train the model's weights; everything else of it stays as it is.

    aware: train it as its quantised form computes; the result is that.

    Raises PrunecError; where training diverged after an epoch that made the model better, the
    result is that and `diverged` says so.
    """
    watcher = watcher or Watcher()
    chain = parse_augmentations(recipe.augment)
    watcher.progress("reading models and data")
    machine = Machine(settings)
    pair = _Pair(work, aware)
    settings, inputs, notes = _batches(pair, settings)
    data = _divided(work, recipe, settings, inputs)
    objective, classes = _objective(pair, work, recipe, settings, data)
    lesson = _lesson(pair, objective, data, settings, aware, machine.shard)
    extras = Extras(
        augment=augmenter(chain, inputs) if chain else None,
        on_epoch=watcher.on_epoch if machine.first else lambda epoch: None,
        identity=(recipe, work.data, work.evaluation, pair.digest, *lesson.identity),
        stateful=lesson.stateful,
        progress=watcher.progress,
    )
    train, held_out = _judged(data, objective, classes, lesson.run)
    diverged = None
    try:
        history = fit(
            pair.student, train, lesson.loss, settings,
            extra_parameters=lesson.groups, on_step=lesson.on_step,
            held_out=held_out, extras=extras, machine=machine,
        )  # fmt: skip
    except TrainingError as error:
        if not error.best:
            raise
        assert isinstance(error.history, History)
        diverged, history = error, error.history
    model, more = lesson.result()
    return FineTuned(model, history, objective.labels, notes + more, diverged, machine.first)


@dataclass(frozen=True, slots=True, eq=False)
class _Lesson:
    """What is minimised and judged, and what the trained model is; see `Extras` and `fit`."""

    loss: Loss
    run: Callable[..., Mapping[str, Tensor]]
    result: Callable[[], tuple[ir.Model, tuple[str, ...]]]
    groups: tuple[Group, ...] = ()
    on_step: OnStep | None = None
    stateful: Mapping[str, Stateful] = field(default_factory=dict)
    identity: tuple[object, ...] = ()


def _lesson(
    pair: _Pair,
    objective: Objective,
    data: Divided,
    settings: TrainSettings,
    aware: Aware | None,
    shard: Shard,
) -> _Lesson:
    student = pair.student
    if aware is None:
        return _Lesson(objective, student, lambda: (student.to_model(), ()))
    batches = enough(data.train.epoch(1, Shard()), aware.samples)
    made = Conversion(student, pair.source, objective, aware, batches)
    first = first_batch(data.train).feeds
    return _Lesson(
        loss=made.loss,
        run=made.judged,
        result=lambda: made.result(first),
        groups=made.loss.groups(settings),
        on_step=made.on_step(settings.epochs, steps_of_epoch(data.train, settings, shard)),
        stateful={"clock": made.loss.clock},
        identity=aware.identity,
    )


@dataclass(slots=True, eq=False)
class _Pair:
    """Student and teacher as views, and what fits between them."""

    work: Work
    aware: Aware | None = None
    source: ir.Model = field(init=False)
    dense: ir.Model | None = field(init=False)
    student: TorchView = field(init=False)
    teacher: TorchView | None = field(init=False)
    outputs: list[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.source = load(self.work.model)
        if self.aware is not None:
            self.source = in_opset(self.source, self.aware)
        self.dense = None if self.work.teacher is None else load(self.work.teacher)
        self.outputs = own_outputs(self.source)
        if self.dense is not None:
            check_inputs(model_inputs(self.dense), model_inputs(self.source))
            self.outputs = paired_outputs(self.dense, self.source)
        self.student = torch_view(self.source)
        self.teacher = None if self.dense is None else torch_view(self.dense)

    @property
    def views(self) -> list[TorchView]:
        """Both, or the student alone."""
        return [v for v in (self.student, self.teacher) if v is not None]

    @property
    def digest(self) -> str:
        """Of the teacher."""
        return "" if self.dense is None else graph_digest(self.dense)


def _batches(
    pair: _Pair, settings: TrainSettings
) -> tuple[TrainSettings, tuple[InputSpec, ...], tuple[str, ...]]:
    """The batch that the models take, the inputs as they are checked, and what to tell."""
    inputs = model_inputs(pair.source)
    least = fixed_batch(inputs)
    if least is None or takes_any_batch(pair.views, inputs):
        return settings, freed(inputs), ()
    parts = max(1, settings.batch // least)
    frozen = settings.freeze_norms or least < SMALL
    note = f"the graph takes batches of {least} only: {parts} of them make a step"
    if frozen and not settings.freeze_norms:
        note += "; norms keep their running statistics"
    changed = replace(
        settings, batch=least, accumulate=settings.accumulate * parts, freeze_norms=frozen
    )
    return changed, inputs, (note,)


def _divided(
    work: Work, recipe: Recipe, settings: TrainSettings, inputs: tuple[InputSpec, ...]
) -> Divided:
    how = Reading(
        batch=settings.batch,
        memory=recipe.memory,
        buffer=recipe.buffer,
        workers=recipe.workers,
        seed=settings.seed,
        whole=fixed_batch(inputs) is not None,
    )
    return divided(work.data, inputs, how, recipe.validation, work.evaluation)


def _objective(
    pair: _Pair, work: Work, recipe: Recipe, settings: TrainSettings, data: Divided
) -> tuple[Objective, int]:
    """What is minimised, and the number of classes (0 without labels)."""
    labelled = recipe.labels != "none" and data.labelled
    if pair.teacher is None and not labelled:
        raise DataError("without --teacher training needs labels, and the data has none")
    first = first_batch(data.train)
    feeds = few(first, None if data.train.whole else 2)
    own = run(pair.student, feeds, [name for _, name in pair.outputs])
    classes = 0
    if labelled:
        rows = own[pair.outputs[0][1]]
        labels = None if first.labels is None else first.labels[: len(rows)]
        classes = flat_logits(rows, labels).shape[1]
    teacher: Teacher | None = None
    features: Sequence[Feature] = ()
    if pair.teacher is not None:
        taught = run(pair.teacher, feeds, [name for name, _ in pair.outputs])
        check_same_shapes(pair.outputs, taught, own)
        features = _features(pair, work, recipe, first)
        wanted = [name for name, _ in pair.outputs] + [f.dense for f in features]
        # Kept answers serve the second epoch on; features are too large to be kept.
        steady = not recipe.augment and not features and settings.epochs > 1
        teacher = Teacher(pair.teacher, wanted, data.indexed if steady else 0, recipe.cache)
    made = Objective(
        outputs=pair.outputs,
        teacher=teacher,
        labels=labelled,
        alpha=recipe.alpha,
        temperature=recipe.temperature,
        smoothing=recipe.smoothing,
        output_loss=recipe.output_loss,
        features=features,
        feature_weight=recipe.feature_weight,
    )
    return made, classes


def _features(pair: _Pair, work: Work, recipe: Recipe, first: Batch) -> Sequence[Feature]:
    if not recipe.features:
        return []
    assert pair.teacher is not None and pair.dense is not None
    names = _computed(pair.source) & _computed(pair.dense)
    names = {n for n in names if any(re.search(p, n) for p in recipe.features)}
    feeds = few(first, None)
    shapes = [
        {n: tuple(v.shape) for n, v in run(view, feeds, sorted(names)).items()
         if v.is_floating_point()}
        for view in (pair.teacher, pair.student)
    ]  # fmt: skip
    plan = work.plan
    assert work.teacher is not None
    subject = None if plan is None else open_model(
        work.teacher, freedom=plan.freedom, rules=plan.rules
    )  # fmt: skip
    if subject is None or plan is None:
        require_same_groups(pair.dense, pair.source)
    moved = {} if subject is None or plan is None else moved_axes(subject, plan)
    return find_features(recipe.features, shapes[0], shapes[1], subject, plan, moved)


def _computed(model: ir.Model) -> set[str]:
    return {str(v.name) for node in model.graph for v in node.outputs if v.name}


def _judged(
    data: Divided, objective: Objective, classes: int, run: Callable[..., Mapping[str, Tensor]]
) -> tuple[Samples, tuple[Samples, Judge] | None]:
    """The samples with their labels checked, where labels have a say."""
    parts: list[Samples | None] = [data.train, data.held_out]
    if objective.labels:
        named = ("the training data", "the held-out data")
        parts = [p and CheckedLabels(p, classes, n) for p, n in zip(parts, named, strict=True)]
    train, held_out = parts
    assert train is not None
    return train, None if held_out is None else (held_out, judge_of(objective, run))

"""What training under gates works on: the gated model, the data, the loss of its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from prunec.compiler.errors import ModelError, UsageError
from prunec.compiler.problem import FloatArray
from prunec.runtime.data import DataSpec
from prunec.runtime.inputs import model_inputs
from prunec.runtime.subject import Subject
from prunec.runtime.torch_view import TorchView, torch_view
from prunec.runtime.torch_view.gated import GatedView
from prunec.runtime.torch_view.points import points_of
from prunec.runtime.torch_view.run import Edit
from prunec.runtime.training.aware import Aware
from prunec.runtime.training.batch import Batch, Shard
from prunec.runtime.training.calibration import enough
from prunec.runtime.training.conversion import Conversion
from prunec.runtime.training.history import History
from prunec.runtime.training.losses import Objective, class_axis
from prunec.runtime.training.machine import Machine
from prunec.runtime.training.pairing import own_outputs
from prunec.runtime.training.reading import Reading, divided, first_batch
from prunec.runtime.training.samples import Samples
from prunec.runtime.training.settings import Recipe, TrainSettings
from prunec.runtime.training.teacher import Teacher
from prunec.runtime.training.trial import few, fixed_batch, freed, run, takes_any_batch


class Once:
    """A teacher that is asked once for each batch."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._feeds: Mapping[str, Tensor] | None = None
        self._found: dict[str, Tensor] = {}

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The wanted values, without gradients."""
        if batch.feeds is not self._feeds:
            self._found, self._feeds = self._teacher(batch), batch.feeds
        return self._found


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """One run of training under gates.

    settings: with the batch that the model takes. per_sample: whether each sample can have gates of
    its own. conversion: what rounds weights and activations, if anything does. drawn: the output
    whose classes are drawn from the teacher's probabilities, to stand for labels where there are
    none; "" where labels are given or outputs are no classes.
    """

    subject: Subject
    view: TorchView
    gated: GatedView
    data: Samples
    objective: Objective
    machine: Machine
    settings: TrainSettings
    per_sample: bool
    drawn: str
    conversion: Conversion | None = None

    def edits(self) -> dict[Any, Edit]:
        """What a training step does to the view before gates and masks act: rounding, if any."""
        return {} if self.conversion is None else self.conversion.loss.edits()

    @property
    def wanted(self) -> list[str]:
        """Values that the loss reads."""
        return list(dict.fromkeys(own for _, own in self.objective.outputs))

    def rows(self, batch: Batch) -> int:
        """How many rows of gates a batch gets."""
        return batch.samples if self.per_sample else 1

    def terms(self, found: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The loss of these outputs."""
        if self.drawn:
            assert self.objective.teacher is not None
            taught = self.objective.teacher(batch)[self.drawn].flatten(1)
            classes = torch.multinomial(taught.float().softmax(1).cpu(), 1)[:, 0]
            batch = replace(batch, labels=classes.to(taught.device))
        return self.objective.terms(found, batch)


@dataclass(frozen=True, slots=True, eq=False)
class Gated:
    """What training leaves. openness: (number_of_groups,) higher = keep, as `Gate` and `Masks` say.
    record: what plans keep of the training."""

    openness: FloatArray
    history: History
    record: Mapping[str, Any]


def open_session(
    subject: Subject,
    spec: DataSpec,
    recipe: Recipe,
    settings: TrainSettings,
    *,
    weights: bool,
    aware: Aware | None = None,
) -> Session:
    """Read the data and make the views; weights: whether the network's weights learn.

    aware: train them as they will be quantised.

    The dense model as it came is the teacher. Raises DataError, ModelError, UsageError.
    """
    if settings.precision == "float16":
        raise UsageError("gates need --precision float32 or bfloat16: float16 scales gradients")
    if not points_of(subject):
        raise UsageError("gates and masks need a channel group that some operator reads; none is")
    machine = Machine(settings)
    view, dense = torch_view(subject.model), torch_view(subject.model)
    inputs = model_inputs(subject.model)
    least = fixed_batch(inputs)
    if least is not None and not takes_any_batch([view], inputs):
        parts = max(1, settings.batch // least)
        settings = replace(settings, batch=least, accumulate=settings.accumulate * parts)
    else:
        inputs, least = freed(inputs), None
    if not weights:
        view.requires_grad_(False)
        settings = replace(settings, freeze_norms=True)
    how = Reading(
        settings.batch, recipe.memory, recipe.buffer, recipe.workers, settings.seed,
        whole=least is not None,
    )  # fmt: skip
    data = divided(spec, inputs, how)
    outputs = own_outputs(subject.model)
    first = first_batch(data.train)
    labelled = recipe.labels != "none" and data.labelled
    drawn = "" if labelled else _classes(dense, outputs[0][0], first)
    objective = Objective(
        outputs=outputs,
        teacher=Once(Teacher(dense, [name for name, _ in outputs])),
        labels=labelled or bool(drawn),
        alpha=recipe.alpha,
        temperature=recipe.temperature,
        smoothing=recipe.smoothing,
        output_loss=recipe.output_loss,
    )
    conversion = None
    if aware is not None:
        if aware.recipe.block:
            raise UsageError("blocks of weights don't go with channels that leave; drop block=")
        batches = enough(data.train.epoch(1, Shard()), aware.samples)
        conversion = Conversion(view, view.to_model(), objective, aware, batches)
    return Session(
        subject,
        view,
        GatedView(subject, view),
        data.train,
        objective,
        machine,
        settings,
        _per_sample(subject, first, least),
        drawn,
        conversion,
    )


def _classes(dense: TorchView, name: str, batch: Batch) -> str:
    """The output, where it is one row of classes for each sample."""
    feeds = few(batch, None)
    found = run(dense, feeds, [name])[name]
    samples = len(next(iter(feeds.values())))
    return name if len(found) == samples and class_axis(found.shape, "auto") == 1 else ""


def _per_sample(subject: Subject, batch: Batch, least: int | None) -> bool:
    """Whether gates of their own for each sample fit the model."""
    feeds = few(batch, least or 2)
    samples = len(next(iter(feeds.values())))
    view = torch_view(subject.model).eval()
    gates = torch.ones(samples, subject.graph.number_of_groups)
    try:
        with torch.no_grad():
            GatedView(subject, view)(feeds, gates)
    except (ModelError, RuntimeError):
        return False
    return samples > 1


def steps_of(session: Session) -> int:
    """Optimizer steps in all. Raises UsageError where nobody knows."""
    settings = session.settings
    if settings.steps is not None:
        return settings.steps
    batches = session.data.batches(session.machine.shard)
    if batches is None:
        raise UsageError("gates and masks need --steps where the data is a stream")
    return settings.epochs * max(1, batches // settings.accumulate)

"""The training loop: one for fine-tuning, gates and masks."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from prunec.compiler.errors import DataError, TrainingError
from prunec.runtime.torch_view import TorchView
from prunec.runtime.training import checkpoint
from prunec.runtime.training.evaluate import Judge, evaluate
from prunec.runtime.training.history import Epoch, History, Score, history_of, mean_terms
from prunec.runtime.training.hooks import Extras, OnStep, Stateful, StepInfo
from prunec.runtime.training.losses import Loss
from prunec.runtime.training.machine import Machine
from prunec.runtime.training.optimizers import Group
from prunec.runtime.training.samples import Samples
from prunec.runtime.training.settings import TrainSettings
from prunec.runtime.training.stepper import Feed, Stepper, Student, leaves_unused

__all__ = ["Extras", "OnStep", "Stateful", "StepInfo", "fit"]

LOOK = 20  # steps between looks at the loss: each look waits for the GPU
HeldOut = tuple[Samples, Judge]
# What a checkpoint holds of the run itself.
COUNTERS = ("step", "position", "samples", "count", "epoch", "stopped", "sums", "seconds")


def fit(
    view: TorchView,
    data: Samples,
    loss: Loss,
    settings: TrainSettings,
    *,
    extra_parameters: Sequence[Group] = (),
    on_step: OnStep | None = None,
    held_out: HeldOut | None = None,
    extras: Extras | None = None,
    machine: Machine | None = None,
) -> History:
    """Train the view (and the extra parameters) in place; it is left in evaluation mode.

    held_out: samples, and how to judge on them; the view gets the weights of the best epoch then,
    the model as it came included, else those of the last step (their average with `settings.ema`).
    machine: to share one with other work; else this run has its own. The random numbers of each
    step depend on the seed, its number and the process only, so that a resumed run is the same.
    Raises DataError, TrainingError, UsageError, OutputError.
    """
    own = machine or Machine(settings)
    threads = torch.get_num_threads()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        student = Student(view, loss, extra_parameters)
        run = _Run(student, data, settings, extra_parameters, extras or Extras(), own)
        run.start(held_out)
        while not run.done:
            run.train_epoch(on_step)
            run.finish_epoch(held_out)
        return run.close()
    finally:
        torch.set_num_threads(threads)


class _Run:
    """Where one run stands; lives inside `fit`."""

    def __init__(
        self,
        student: Student,
        data: Samples,
        settings: TrainSettings,
        groups: Sequence[Group],
        extras: Extras,
        machine: Machine,
    ) -> None:
        self.view, self.settings, self.extras, self.machine = (
            student.view,
            settings,
            extras,
            machine,
        )
        self.feed = Feed(data, settings, machine, extras.augment)
        if self.feed.empty:
            raise DataError("the training data holds no batch; give more samples")
        self.total = settings.steps or settings.epochs * self.feed.steps
        self.run = ""
        if settings.checkpoint is not None:
            facts = [*extras.identity, machine.shard.world, data.size, self.total]
            self.run = checkpoint.fingerprint(settings, student.state_dict(), facts)
        self.plain = student
        student.to(machine.device)
        if machine.shard.world > 1:
            first = next(data.epoch(1, machine.shard)).to(machine.device)
            machine.look_for_unused(leaves_unused(student, first))
        self.stepper = Stepper(student, settings, groups, machine)
        self.history = History()
        self.step = self.position = self.samples = self.count = 0
        self.epoch, self.stopped, self.seconds = 1, False, 0.0
        self.sums: dict[str, float] = {}
        self.best: dict[str, Any] | None = None

    @property
    def done(self) -> bool:
        """Whether all steps were made, or a callback ended the run."""
        return self.stopped or self.step >= self.total

    def start(self, held_out: HeldOut | None) -> None:
        """Go on from a checkpoint, or judge the model as it came."""
        folder = self.settings.checkpoint
        state = checkpoint.read(folder, self.run) if folder is not None else None
        if state is not None:
            self._restore(state)
        elif held_out is not None:
            self._note(held_out, 0)

    def train_epoch(self, on_step: OnStep | None) -> None:
        """Make the steps that are left of this epoch."""
        self.view.train(not self.settings.freeze_norms)
        began = time.perf_counter()
        for group in self.feed.groups(self.epoch, self.position):
            terms = self.stepper.make(group, self.step, self.total)
            self.step += 1
            self.position += len(group)
            self.samples += sum(batch.samples for batch in group)
            if on_step is not None:
                optimizer = self.stepper.optimizer.optimizer
                info = StepInfo(self.step, self.total, self.epoch, terms, optimizer)
                self.stopped = bool(on_step(info))
            saves = self.step % self.settings.checkpoint_steps == 0
            if saves or self.step % LOOK == 0:
                self._look()
            if self.done:
                break
            if saves and self.settings.checkpoint is not None:
                now = time.perf_counter()
                self.seconds, began = self.seconds + now - began, now
                self.save()
        self._look()
        self.seconds += time.perf_counter() - began

    def _look(self) -> None:
        """Take the losses since the last look from the device. Raises TrainingError on a NaN."""
        sums, steps = self.stepper.take_losses()
        if not steps:
            return
        loss = sum(sums.values()) / steps
        self.count += steps
        if not abs(loss) < float("inf"):
            best = None
            if self.best is not None:
                self.plain.load_state_dict(self.best["state"])
                best = self.best["epoch"]
            self.view.eval()
            raise TrainingError(self.epoch, self.step, best, self.history)
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.history.curve.append((self.step, loss))
        self.extras.progress(f"step {self.step} of {self.total}, loss {loss:.4g}")

    def finish_epoch(self, held_out: HeldOut | None) -> None:
        """Judge, note, store."""
        if not self.count:
            raise DataError("an epoch of the training data holds no batch")
        self._note(held_out, self.epoch)
        self.epoch += 1
        self.position = self.samples = self.count = 0
        self.sums, self.seconds = {}, 0.0
        self.save()

    def _note(self, held_out: HeldOut | None, number: int) -> None:
        self.extras.progress(f"step {self.step} of {self.total}, evaluating")
        score = None if held_out is None else self._score(*held_out, number)
        terms = mean_terms(self.sums, self.count)
        rate = float(self.stepper.optimizer.param_groups[0]["lr"]) if number else 0.0
        samples = self.samples * self.machine.shard.world
        epoch = Epoch(number, self.step, rate, terms, score, self.seconds, samples)
        self.history.epochs.append(epoch)
        self.history.steps = self.step
        self.extras.on_epoch(epoch)

    def _score(self, data: Samples, judge: Judge, number: int) -> Score:
        """How good the weights are now (their average with `ema`); keeps them if they are best."""
        state = self._candidate()
        mine = {name: tensor.clone() for name, tensor in self.plain.state_dict().items()}
        self.plain.load_state_dict(state)
        self.view.eval()
        score = evaluate(data, judge, self.machine)
        if not score.samples:
            raise DataError("the held-out data holds no sample; give more, or --validation 0")
        if score.beats(Score(**self.best["score"]) if self.best else None):
            kept = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
            numbers = {"loss": score.loss, "top1": score.top1, "samples": score.samples}
            self.best = {"state": kept, "score": numbers, "epoch": number}
            self.history.best = number
        self.plain.load_state_dict(mine)
        return score

    def _candidate(self) -> Mapping[str, Tensor]:
        """The weights that the run would end with here."""
        average = self.stepper.average
        return self.plain.state_dict() if average is None else average.state

    def close(self) -> History:
        """Leave the best weights in the view."""
        state = self._candidate() if self.best is None else self.best["state"]
        self.plain.load_state_dict(state)
        self.view.eval()
        return self.history

    def save(self) -> None:
        """Write the checkpoint; only the first process does."""
        folder = self.settings.checkpoint
        if folder is None or not self.machine.first:
            return
        scaler, average = self.machine.accelerator.scaler, self.stepper.average
        state = {
            "run": self.run,
            "student": self.plain.state_dict(),
            "optimizer": self.stepper.optimizer.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "average": None if average is None else average.state,
            "average_steps": 0 if average is None else average.steps,
            "best": self.best,
            "stateful": {name: s.state_dict() for name, s in self.extras.stateful.items()},
            "history": json.dumps(self.history.to_dict()),
        }
        checkpoint.write(folder, state | {name: getattr(self, name) for name in COUNTERS})

    def _restore(self, state: dict[str, Any]) -> None:
        self.plain.load_state_dict(state["student"])
        self.stepper.optimizer.optimizer.load_state_dict(state["optimizer"])
        scaler, average = self.machine.accelerator.scaler, self.stepper.average
        if scaler is not None and state["scaler"] is not None:
            scaler.load_state_dict(state["scaler"])
        if average is not None:
            average.steps = state["average_steps"]
            for name, tensor in state["average"].items():
                average.state[name].copy_(tensor)
        self.best = state["best"]
        for name, part in self.extras.stateful.items():
            part.load_state_dict(state["stateful"][name])
        for name in COUNTERS:
            setattr(self, name, state[name])
        self.history = history_of(json.loads(state["history"]))
        self.history.resumed = self.step

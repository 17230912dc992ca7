"""Optimizer steps: batches in, weights changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from prunec.runtime.torch_view import TorchView
from prunec.runtime.training.average import Average
from prunec.runtime.training.batch import Batch
from prunec.runtime.training.losses import Loss, Terms
from prunec.runtime.training.machine import Machine
from prunec.runtime.training.optimizers import Group, make_optimizer
from prunec.runtime.training.prefetch import prefetched
from prunec.runtime.training.samples import Samples
from prunec.runtime.training.schedules import factor
from prunec.runtime.training.settings import TrainSettings

Augment = Callable[[Batch, torch.Generator], Batch]


class Student(nn.Module):
    """The view, its loss and the extra parameters as the one module that processes share."""

    def __init__(self, view: TorchView, loss: Loss, groups: Sequence[Group]) -> None:
        super().__init__()
        self.view = view
        self.extra = nn.ParameterList([p for group in groups for p in group.parameters])
        self._loss = loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss."""
        return dict(self._loss(self.view, batch))


def leaves_unused(student: Student, batch: Batch) -> bool:
    """Whether the loss does not reach some parameter: an output that nobody trains."""
    student.eval()
    loss = torch.stack([term.float() for term in student(batch).values()]).sum()
    torch.autograd.backward(loss)
    unused = any(p.grad is None for p in student.parameters() if p.requires_grad)
    student.zero_grad(set_to_none=True)
    return unused


class Stepper:
    """The student with what moves it; counts nothing but steps whose losses were not looked at.

    Random numbers depend on the seed, the step and the process only.
    """

    def __init__(
        self, student: Student, settings: TrainSettings, groups: Sequence[Group], machine: Machine
    ) -> None:
        self.plain, self.settings, self.machine = student, settings, machine
        view = student.view
        trained = {name for name, _ in student.named_parameters(remove_duplicate=False)}
        state = student.state_dict(keep_vars=True)
        self.parameters = [p for p in student.parameters() if p.requires_grad]
        student.to(machine.device)
        self.statistics = [name for name in state if name not in trained]
        optimizer = make_optimizer(view.parameters(), settings, groups)
        self.student, self.optimizer = machine.accelerator.prepare(student, optimizer)
        self.average = Average(student.state_dict(), settings.ema) if settings.ema else None
        self.pending: dict[str, Tensor] = {}
        self.pending_steps = 0

    def make(self, group: Sequence[Batch], step: int, total: int) -> Terms:
        """One optimizer step over some batches; the terms of the last one."""
        settings, accelerator = self.settings, self.machine.accelerator
        now = factor(step, total, settings.warmup, settings.schedule)
        for row in self.optimizer.param_groups:
            if row["scheduled"]:
                row["lr"] = row["peak"] * now
        torch.manual_seed(mixed(settings.seed, step, self.machine.shard.rank, 1))
        for batch in group[:-1]:
            with accelerator.no_sync(self.student):
                self._backward(batch, len(group))
        terms = self._backward(group[-1], len(group))
        if settings.clip:
            accelerator.clip_grad_norm_(self.parameters, settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._share_statistics()
        self.pending_steps += 1
        if self.average is not None:
            self.average.update(self.plain.state_dict())
        return terms

    def _share_statistics(self) -> None:
        """Running statistics are the mean over the processes, each of which saw other samples."""
        if self.machine.shard.world > 1:
            state = self.plain.state_dict(keep_vars=True)
            self.machine.average([state[name] for name in self.statistics])

    def _backward(self, batch: Batch, parts: int) -> dict[str, Tensor]:
        terms = self.student(batch)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        self.machine.accelerator.backward(loss / parts)
        found = {name: term.detach() for name, term in terms.items()}
        for name, term in found.items():
            share = term.float() / parts
            self.pending[name] = self.pending[name] + share if name in self.pending else share
        return found

    def take_losses(self) -> tuple[dict[str, float], int]:
        """Sums of the terms over the steps since the last call, mean over the processes; steps.

        Waits for the device.
        """
        names, steps = list(self.pending), self.pending_steps
        world = self.machine.shard.world
        sums = self.machine.total(float(value) / world for value in self.pending.values())
        self.pending, self.pending_steps = {}, 0
        return dict(zip(names, sums, strict=True)), steps


class Feed:
    """Batches of the data as optimizer steps need them, on the device."""

    def __init__(
        self, data: Samples, settings: TrainSettings, machine: Machine, augment: Augment | None
    ) -> None:
        self.data, self.settings, self.machine, self.augment = data, settings, machine, augment
        batches = data.batches(machine.shard)
        self.agree = batches is None  # whether processes may run out of samples at other steps
        if batches is None and settings.steps is None:
            batches = self._counted()
        # Endless data needs `steps`; then nobody counts.
        accumulate = settings.accumulate
        self.steps = settings.steps or 1 if batches is None else max(batches // accumulate, 1)
        self.empty = batches == 0

    def _counted(self) -> int:
        """Batches of an epoch, by reading it once; the fewest that any process has."""
        return self.machine.least(sum(1 for _ in self.data.epoch(1, self.machine.shard)))

    def groups(self, epoch: int, position: int) -> Iterator[list[Batch]]:
        """The batches of one step after the other, from batch `position` of the epoch on."""
        group: list[Batch] = []
        made = position // self.settings.accumulate
        source = self.data.epoch(epoch, self.machine.shard, position)
        batches = prefetched(source) if self.machine.device.type == "cuda" else source
        while made < self.steps or self.agree:
            batch = next(batches, None)
            have = batch is not None
            if not (self.machine.all_have(have) if self.agree else have):
                break
            assert batch is not None
            group.append(self._augmented(batch.to(self.machine.device), epoch, position))
            position += 1
            if len(group) == self.settings.accumulate:
                made += 1
                yield group
                group = []
        if group and not made:
            yield group  # the epoch has fewer batches than one step accumulates

    def _augmented(self, batch: Batch, epoch: int, position: int) -> Batch:
        if self.augment is None:
            return batch
        seed = mixed(self.settings.seed, epoch, position, self.machine.shard.rank)
        return self.augment(batch, torch.Generator().manual_seed(seed))


def mixed(*parts: int) -> int:
    """A seed that differs wherever a part does.

    >>> mixed(0, 1) != mixed(1, 0)
    True
    """
    state = 0
    for part in parts:
        state = (state * 0x9E3779B97F4A7C15 + part + 1) % 2**63
    return state

"""How good a view is on held-out samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from prunec.runtime.training.batch import Batch
from prunec.runtime.training.history import Score
from prunec.runtime.training.losses import Objective, flat_logits
from prunec.runtime.training.machine import Machine
from prunec.runtime.training.samples import Samples

# Of a batch on the run's device: sums over its samples of the loss and of right answers (None:
# unknown).
Judge = Callable[[Batch], tuple[float, float | None]]


def judge_of(objective: Objective, run: Callable[..., Mapping[str, Tensor]]) -> Judge:
    """The loss that is trained, and with labels the share of right answers.

    run: the view in evaluation mode, or its student under another precision.
    """

    def judge(batch: Batch) -> tuple[float, float | None]:
        found = run(batch.feeds, wanted=objective.wanted)
        loss = float(sum(objective.terms(found, batch).values()))
        labels = batch.labels
        if not objective.labels or labels is None:
            return loss * batch.samples, None
        rows = flat_logits(found[objective.outputs[0][1]], labels)
        return loss * batch.samples, float(torch.eq(rows.argmax(1), labels).sum())

    return judge


def evaluate(data: Samples, judge: Judge, machine: Machine) -> Score:
    """The mean over all samples, whichever process read them."""
    loss = right = samples = 0.0
    known = 1.0
    with torch.no_grad(), machine.accelerator.autocast():
        for batch in data.epoch(0, machine.shard):
            one, hits = judge(batch.to(machine.device))
            loss += one
            samples += batch.samples
            right += hits or 0.0
            known = min(known, float(hits is not None))
    loss, right, samples, known = machine.total((loss, right, samples, known))
    top1 = right / samples if known == machine.shard.world and samples else None
    return Score(loss / max(samples, 1), top1, int(samples))

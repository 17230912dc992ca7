"""Losses of single samples, with labels or against the dense model's own predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor

from prunec.compiler.errors import DataError, UsageError
from prunec.runtime.chunks import Labels

Outputs = Mapping[str, Tensor]
SampleLoss = Callable[[Outputs, Labels | None], Tensor]  # -> (batch,)
PASSING = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Cast", "Unsqueeze"})
SIGNLESS = frozenset({"sample", "sketch"})  # of which only squares of gradients have a meaning
TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """Cross entropy, in nats, of the first output.

    output: its name. ends: what makes it: Softmax, LogSoftmax or something else, then logits.
    targets: "labels", or with p the model's own probabilities: "argmax", cross entropy with the
    likeliest class; "sample", with a class drawn from p; "sketch",
    ``sum_y e_y sqrt(p_y) (-log p_y)`` with random signs e and p held constant. The mean of squared
    gradients over the last two is that of the Fisher information, ``E_{y ~ p} (d log p_y)^2``; of
    the sketch with less variance.
    """

    output: str
    ends: str
    targets: str
    generator: torch.Generator

    def __call__(self, outputs: Outputs, labels: Labels | None) -> Tensor:
        """(batch,) losses. Raises DataError where labels do not fit."""
        logs = self._log_probabilities(outputs[self.output])
        own = logs.detach()
        if self.targets == "labels":
            chosen = self._checked(labels, logs)
        elif self.targets == "argmax":
            chosen = own.argmax(1)
        elif self.targets == "sample":
            # Drawn on the CPU: the same classes on every device.
            drawn = torch.multinomial(own.exp().cpu(), 1, generator=self.generator)
            chosen = drawn[:, 0].to(logs.device)
        else:
            signs = _signs(own, self.generator)
            return -(signs * (own / 2).exp() * logs).sum(1)
        return -logs.gather(1, chosen[:, None])[:, 0]

    def _log_probabilities(self, output: Tensor) -> Tensor:
        rows = output.reshape(len(output), -1).float()
        if self.ends == "Softmax":
            return rows.clamp_min(TINY).log()
        return rows if self.ends == "LogSoftmax" else rows.log_softmax(1)

    def _checked(self, labels: Labels | None, logs: Tensor) -> Tensor:
        if labels is None:
            raise DataError("the data has no labels; give some, or labels=self")
        if labels.min() < 0 or labels.max() >= logs.shape[1]:
            raise DataError(
                f"labels lie in [{labels.min()}, {labels.max()}], "
                f"output {self.output!r} has {logs.shape[1]} classes"
            )
        return torch.as_tensor(labels, dtype=torch.int64, device=logs.device)


@dataclass(frozen=True, slots=True, eq=False)
class Distance:
    """A random projection of all float outputs y: ``sum_o e_o y_o / ||y||``, e random signs.

    The mean of its squared gradients, halved, is the second-order increase of
    ``||y - y_dense||^2 / (2 ||y_dense||^2)``, summed over the outputs: the Fisher information of a
    Gaussian around each output. Unitless.
    """

    generator: torch.Generator

    def __call__(self, outputs: Outputs, labels: Labels | None) -> Tensor:
        """(batch,) projections."""
        total: Tensor | None = None
        for y in outputs.values():
            if not y.is_floating_point() or not y.ndim or not y.requires_grad:
                continue
            rows = y.reshape(len(y), -1).float()
            size = rows.detach().norm(dim=1).clamp_min(TINY)
            own = (_signs(rows, self.generator) * rows).sum(1) / size
            total = own if total is None else total + own
        if total is None:
            raise UsageError("no float output depends on a channel that can be removed")
        return total


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """+1 and -1, drawn on the CPU: the same on every device."""
    drawn = torch.randint(0, 2, like.shape, generator=generator) * 2 - 1
    return drawn.to(like.device, like.dtype)


def sample_loss(
    model: ir.Model, outputs: Outputs, labels: Labels | None, source: str, targets: str, seed: int
) -> tuple[SampleLoss, str]:
    """The loss of a model's samples, and what it is in one word.

    outputs, labels: of a first batch. source: where targets come from, "data", "self", or "auto":
    labels where the data has them. targets: argmax, sample or sketch, for "self". The words are
    labels, argmax, sample, sketch and distance; the last is for outputs that are no
    (batch, classes). Raises DataError.
    """
    generator = torch.Generator().manual_seed(seed)
    first = model.graph.outputs[0]
    name, ends = first.name or "", _made_by(first)
    classes = _is_classes(outputs[name]) and ends != "Sigmoid"
    if source == "data" and labels is None:
        raise DataError("labels=data: the data has no labels; give some, or labels=self")
    if source == "data" and not classes:
        raise DataError(
            f"labels=data: output {name!r} is {tuple(outputs[name].shape)}, not (batch, classes); "
            "use labels=self"
        )
    if not classes:
        return Distance(generator), "distance"
    if source != "self" and labels is not None:
        targets = "labels"
    return Classification(name, ends, targets, generator), targets


def _is_classes(output: Tensor) -> bool:
    """Whether it is (batch, classes), with axes of size 1 anywhere behind the first."""
    sizes = [size for size in output.shape[1:] if size != 1]
    return output.is_floating_point() and len(sizes) == 1


def _made_by(value: ir.Value) -> str:
    """The operator that makes a value, behind those that only move it."""
    node = value.producer()
    while node is not None and node.op_type in PASSING and node.inputs and node.inputs[0]:
        node = node.inputs[0].producer()
    return "" if node is None else node.op_type

"""What training minimises: terms by name, each a weighted mean over the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from prunec.compiler.errors import DataError
from prunec.runtime.torch_view import TorchView
from prunec.runtime.training.batch import Batch

Terms = Mapping[str, Tensor]


class Loss(Protocol):
    """Runs the view on a batch; the sum of the terms is minimised.

    Parameters of its own are given to `fit` as extra groups. Called under the run's autocast.
    """

    def __call__(self, view: TorchView, batch: Batch) -> Terms:
        """Scalars by name, already weighted."""
        ...


@dataclass(frozen=True, slots=True)
class Feature:
    """Values to match. dense, pruned: their names in the two graphs. kept: axis -> the positions
    of the dense value that the pruned one still has.
    """

    dense: str
    pruned: str
    kept: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """``alpha * distillation + (1 - alpha) * cross entropy + feature_weight * features``.

    outputs: (value in the teacher, value in the student) per graph output, logits in front of a
    final Softmax. logits: the value that labels belong to. teacher None: labels only; labels
    False: the teacher only (alpha is then 1). temperature: of the softened distributions (Hinton
    et al. 2015, section 2; the term is multiplied by its square). output_loss: see `distance`.
    """

    outputs: Sequence[tuple[str, str]]
    teacher: Callable[[Batch], Mapping[str, Tensor]] | None = None
    labels: bool = False
    alpha: float = 0.9
    temperature: float = 2.0
    smoothing: float = 0.0
    output_loss: str = "auto"
    features: Sequence[Feature] = ()
    feature_weight: float = 1.0

    @property
    def wanted(self) -> tuple[str, ...]:
        """The values of the student that the terms are made of."""
        names = [own for _, own in self.outputs] + [f.pruned for f in self.features]
        return tuple(dict.fromkeys(names))

    def __call__(self, view: TorchView, batch: Batch) -> Terms:
        """Terms ``distillation``, ``labels`` and ``features``, where they are asked for."""
        return self.terms(view(batch.feeds, wanted=self.wanted), batch)

    def terms(self, found: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The terms for values of the student that are known already."""
        terms: dict[str, Tensor] = {}
        share = (self.alpha if self.labels else 1.0) if self.teacher is not None else 0.0
        if self.teacher is not None:
            taught = self.teacher(batch)
            if share:
                terms["distillation"] = share * self._distillation(found, taught)
            if self.features:
                terms["features"] = self.feature_weight * self._features(found, taught)
        if self.labels and share < 1:
            own = found[self.outputs[0][1]]
            terms["labels"] = (1 - share) * cross_entropy(own, batch.labels, self.smoothing)
        return terms

    def _distillation(self, found: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> Tensor:
        each = [
            distance(found[own], taught[dense], self.temperature, self.output_loss)
            for dense, own in self.outputs
        ]
        return torch.stack(each).mean()

    def _features(self, found: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> Tensor:
        each = []
        for feature in self.features:
            target = taught[feature.dense]
            for axis, kept in feature.kept.items():
                target = target.index_select(axis, torch.tensor(kept, device=target.device))
            each.append(relative_square(found[feature.pruned], target))
        return torch.stack(each).mean()


def distance(own: Tensor, target: Tensor, temperature: float, kind: str = "auto") -> Tensor:
    """How far an output is from the teacher's, >= 0.

    kind: "softmax": Kullback-Leibler divergence of the softened distributions times
    temperature^2, in nats; "mse": relative squared error; "auto": the first for (batch, classes).
    """
    axis = class_axis(own.shape, kind)
    if axis is None:
        return relative_square(own, target)
    log_own = functional.log_softmax(own.float() / temperature, axis)
    log_target = functional.log_softmax(target.float() / temperature, axis)
    positions = own.numel() / own.shape[axis]
    gap = functional.kl_div(log_own, log_target, reduction="sum", log_target=True)
    return gap * (temperature**2 / positions)


def class_axis(shape: Sequence[int], kind: str) -> int | None:
    """The axis of the classes, or None where the output is taken as plain numbers.

    >>> class_axis((8, 10), "auto"), class_axis((8, 10, 1, 1), "auto"), class_axis((8, 1), "auto")
    (1, 1, None)
    >>> class_axis((8, 21, 64, 64), "auto"), class_axis((8, 21, 64, 64), "softmax")
    (None, 1)
    >>> class_axis((8, 128, 50000), "softmax")
    2
    """
    if kind == "mse" or len(shape) < 2:
        return None
    if shape[1] > 1 and all(size == 1 for size in shape[2:]):
        return 1
    if kind == "auto":
        return None
    return 2 if len(shape) == 3 else 1


def relative_square(own: Tensor, target: Tensor) -> Tensor:
    """Mean squared error in units of the target's mean square."""
    target = target.float()
    scale = target.square().mean().clamp_min(1e-12)
    return (own.float() - target).square().mean() / scale


def cross_entropy(logits: Tensor, labels: Tensor | None, smoothing: float = 0.0) -> Tensor:
    """Mean over the batch, in nats. Raises DataError where labels and logits do not fit."""
    rows = flat_logits(logits, labels)
    assert labels is not None
    return functional.cross_entropy(rows.float(), labels, label_smoothing=smoothing)


def flat_logits(logits: Tensor, labels: Tensor | None) -> Tensor:
    """Logits as (batch, classes). Raises DataError."""
    if labels is None:
        raise DataError("training with labels needs labels, the data has none; give --labels none")
    if class_axis(logits.shape, "auto") != 1 or len(logits) != len(labels):
        raise DataError(
            f"the output is {tuple(logits.shape)} for {len(labels)} labels; labels need "
            "(batch, classes); give --labels none"
        )
    return logits.flatten(1)

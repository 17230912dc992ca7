"""Gradients of every sample's loss at the gates of all channel groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from prunec.compiler.criterion import Criterion
from prunec.compiler.errors import DataError, ModelError
from prunec.compiler.problem import FloatArray
from prunec.compiler.stats import Gradients, Stats
from prunec.runtime.chunks import Labels
from prunec.runtime.data import load_data
from prunec.runtime.inputs import Feeds, model_inputs
from prunec.runtime.sample_loss import SIGNLESS, SampleLoss, sample_loss
from prunec.runtime.subject import Subject
from prunec.runtime.torch_view import torch_view
from prunec.runtime.torch_view.gated import GatedView

if TYPE_CHECKING:
    from prunec.runtime.compile import Progress, Settings

# Of the largest gradient of a sample: what batching may change, in float32.
ALONE = 1e-3


class Sampled(Protocol):
    """The options of a criterion that needs gradients."""

    samples: int
    batch: int
    labels: str
    targets: str
    seed: int


def collect(
    subject: Subject, criterion: Criterion, settings: Settings, progress: Progress
) -> Stats:
    """Moments of the gradients over the first samples of the data, BatchNorm in evaluation mode.

    Raises DataError, ModelError for an operator that the torch view does not have.
    """
    options = cast(Sampled, criterion)
    assert settings.data is not None
    spec = settings.data
    limit = min(options.samples, options.samples if spec.limit is None else spec.limit)
    data = load_data(replace(spec, limit=limit, batch=options.batch), model_inputs(subject.model))
    device = torch.device("cuda" if settings.provider == "cuda" else "cpu")
    totals = _Totals(subject.graph.number_of_groups)
    with limited_threads(settings.threads):
        view = torch_view(subject.model).eval().requires_grad_(False).to(device)
        source = PerSample(subject, GatedView(subject, view), options, device)
        for feeds, labels in data.batches():
            progress(f"gradients: {totals.samples} of at most {limit} samples")
            try:
                totals.add(source(feeds, labels))
            except DataError as error:
                raise DataError(f"{spec.path}: {error}") from error
    return Stats(samples=totals.samples, gradients=totals.moments(source.kind not in _NO_SIGN))


_NO_SIGN = SIGNLESS | {"distance"}


@dataclass(slots=True)
class _Totals:
    """Sums of the moments so far, in float64."""

    groups: int
    samples: int = 0
    sums: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.sums = np.zeros((3, self.groups))

    def add(self, gradients: FloatArray) -> None:
        if not np.isfinite(gradients).all():
            raise DataError(
                f"gradients are not finite on samples {self.samples} to "
                f"{self.samples + len(gradients) - 1}: the model overflows on this data"
            )
        self.sums += [gradients.sum(0), np.abs(gradients).sum(0), np.square(gradients).sum(0)]
        self.samples += len(gradients)

    def moments(self, signed: bool) -> Gradients:
        mean, size, square = self.sums / max(self.samples, 1)
        return Gradients(mean if signed else None, size, square)


class PerSample:
    """Feeds and labels of a batch -> (batch, number_of_groups) gradients, float64.

    One backward pass with gates of their own for every sample, where a first batch shows that this
    is the gradient of each sample alone; else one pass per sample, which is right for any model:
    one that moves samples to where they can't be told apart, or reads a weight through gates.
    """

    def __init__(
        self, subject: Subject, gated: GatedView, options: Sampled, device: torch.device
    ) -> None:
        self.subject, self.gated, self.options, self.device = subject, gated, options, device
        self.loss: SampleLoss | None = None
        self.kind = ""
        self.together: bool | None = None

    def __call__(self, feeds: Feeds, labels: Labels | None) -> FloatArray:
        """Gradients of the losses of a batch. Raises DataError where labels do not fit."""
        given = {name: torch.as_tensor(x).to(self.device) for name, x in feeds.items()}
        loss = self.loss or self._chosen(given, labels)
        count = len(next(iter(given.values())))
        if self.together is None:
            self.together = self._agree(given, labels, count)
        gradients = (
            self._batched(given, labels, count, loss)
            if self.together
            else self._one_by_one(given, labels, count, loss)
        )
        return gradients.double().cpu().numpy()

    def _chosen(self, given: dict[str, Tensor], labels: Labels | None) -> SampleLoss:
        """Decide on the loss by what the model gives for a first batch."""
        gates = self._gates(1)
        outputs = self.gated(given, gates)
        o = self.options
        self.loss, self.kind = sample_loss(
            self.subject.model, outputs, labels, o.labels, o.targets, o.seed
        )
        return self.loss

    def _gates(self, rows: int) -> Tensor:
        size = rows, self.gated.number_of_groups
        return torch.ones(size, device=self.device, requires_grad=True)

    def _batched(
        self, given: dict[str, Tensor], labels: Labels | None, count: int, loss: SampleLoss
    ) -> Tensor:
        gates = self._gates(count)
        return _gradient(loss(self.gated(given, gates), labels).sum(), gates)

    def _one_by_one(
        self, given: dict[str, Tensor], labels: Labels | None, count: int, loss: SampleLoss
    ) -> Tensor:
        gates = self._gates(1)
        losses = loss(self.gated(given, gates), labels)
        return torch.cat([_gradient(losses[b], gates) for b in range(count)])

    def _agree(self, given: dict[str, Tensor], labels: Labels | None, count: int) -> bool:
        """Whether both ways agree on two samples."""
        if count < 2:
            return False
        fixed = any(
            x.shape and isinstance(x.shape[0], int) for x in model_inputs(self.subject.model)
        )
        few = count if fixed else 2
        given = {name: x[:few] for name, x in given.items()}
        labels = None if labels is None else labels[:few]
        assert self.loss is not None
        try:
            found = [
                way(given, labels, few, self._again()) for way in (self._batched, self._one_by_one)
            ]
        except ModelError:
            return False
        batched, alone = found
        scale = alone.abs().amax(1, keepdim=True)
        return bool(((batched - alone).abs() <= ALONE * scale).all())

    def _again(self) -> SampleLoss:
        """The same loss with its random numbers from the start."""
        loss: Any = self.loss
        return cast(
            SampleLoss, replace(loss, generator=torch.Generator().manual_seed(self.options.seed))
        )


def _gradient(loss: Tensor, gates: Tensor) -> Tensor:
    """d loss / d gates; zero where nothing depends on them. The graph is kept for further calls."""
    if not loss.requires_grad:
        return torch.zeros_like(gates)
    (gradient,) = torch.autograd.grad(loss, gates, retain_graph=True, allow_unused=True)
    return torch.zeros_like(gates) if gradient is None else gradient


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Torch on so many threads, as onnxruntime elsewhere; 0 leaves it alone."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

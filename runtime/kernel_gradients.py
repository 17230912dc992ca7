"""Gradients of the loss by the weights of convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from prunec.compiler.errors import DataError
from prunec.passes.regroup.scores import KernelEvidence, KernelScore
from prunec.passes.regroup.sites import Site
from prunec.runtime.chunks import Labels
from prunec.runtime.data import load_data
from prunec.runtime.gradients import Sampled, limited_threads
from prunec.runtime.inputs import model_inputs
from prunec.runtime.sample_loss import SampleLoss, sample_loss
from prunec.runtime.subject import Subject
from prunec.runtime.torch_view import torch_view
from prunec.runtime.torch_view.view import TorchView

if TYPE_CHECKING:
    from prunec.runtime.compile import Progress, Settings


def collect(
    subject: Subject,
    sites: Sequence[Site],
    score: KernelScore,
    settings: Settings,
    progress: Progress,
) -> dict[str, KernelEvidence]:
    """Weight -> moments of gradients over the first samples, BatchNorm in evaluation mode.

    Raises DataError, ModelError for an operator that the torch view does not have.
    """
    options = cast(Sampled, score)
    assert settings.data is not None
    limit = min(options.samples, settings.data.limit or options.samples)
    spec = replace(settings.data, limit=limit, batch=options.batch)
    device = torch.device("cuda" if settings.provider == "cuda" else "cpu")
    with limited_threads(settings.threads):
        view = torch_view(subject.model).eval().requires_grad_(False).to(device)
        wanted = {site.weight for site in sites}
        weights = {
            view.names[state]: parameter.requires_grad_()
            for state, parameter in view.named_parameters()
            if view.names[state] in wanted
        }
        totals = _Totals(subject, view, weights, options, score.needs == "squares")
        for feeds, labels in load_data(spec, model_inputs(subject.model)).batches():
            progress(f"gradients: {totals.samples} of at most {limit} samples")
            totals.add({n: torch.as_tensor(x).to(device) for n, x in feeds.items()}, labels)
    return totals.evidence()


class _Totals:
    """Sums over batches of sizes of gradients, or over samples of their squares.

    The squares come from one backward pass per batch: samples count with random signs, so that in
    the square of their sum the mixed products cancel in the mean.
    """

    def __init__(
        self,
        subject: Subject,
        view: TorchView,
        weights: Mapping[str, Tensor],
        options: Sampled,
        squares: bool,
    ) -> None:
        self.subject, self.view, self.options, self.squares = subject, view, options, squares
        self.weights = weights
        self.loss: SampleLoss | None = None
        self.signs = torch.Generator().manual_seed(options.seed)
        self.sums = [torch.zeros_like(w, dtype=torch.float64) for w in weights.values()]
        self.samples = self.batches = 0

    def add(self, feeds: Mapping[str, Tensor], labels: Labels | None) -> None:
        """Count one batch. Raises DataError."""
        outputs = self.view(feeds)
        if self.loss is None:
            o = self.options
            self.loss, _ = sample_loss(
                self.subject.model, outputs, labels, o.labels, o.targets, o.seed
            )
        losses = self.loss(outputs, labels)
        if self.squares:
            signs = torch.randint(0, 2, losses.shape, generator=self.signs) * 2 - 1
            loss = (losses * signs.to(losses)).sum()
        else:
            loss = losses.mean()
        found = torch.autograd.grad(loss, [*self.weights.values()], allow_unused=True)
        for total, gradient in zip(self.sums, found, strict=True):
            if gradient is not None:
                total.add_(gradient.double().square() if self.squares else gradient.double().abs())
        self.samples += len(losses)
        self.batches += 1

    def evidence(self) -> dict[str, KernelEvidence]:
        """By weight. Raises DataError where the model overflows."""
        out = {}
        for name, total in zip(self.weights, self.sums, strict=True):
            mean = (total / (self.samples if self.squares else self.batches)).cpu().numpy()
            if not np.isfinite(mean).all():
                raise DataError(f"gradients of {name} are not finite: the model overflows")
            squares, sizes = (mean, None) if self.squares else (None, mean)
            out[name] = KernelEvidence(mean_abs=sizes, mean_square=squares)
        return out

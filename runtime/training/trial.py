"""A first look at models with a few samples: which batches they take, what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from prunec.compiler.errors import ModelError, PrunecError
from prunec.runtime.inputs import InputSpec, random_feeds
from prunec.runtime.torch_view import TorchView
from prunec.runtime.torch_view.tensors import from_numpy
from prunec.runtime.training.batch import Batch

TOLERANCE = 1e-3  # between a sample alone and in a batch, of the largest output: rounding only


def fixed_batch(inputs: Sequence[InputSpec]) -> int | None:
    """The batch size that the inputs are declared with, None where it is free."""
    sizes = {s.shape[0] for s in inputs if s.shape and isinstance(s.shape[0], int)}
    return int(max(sizes)) if sizes else None


def freed(inputs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The same inputs with a free first dimension."""
    return tuple(replace(s, shape=(None, *s.shape[1:])) if s.shape else s for s in inputs)


def takes_any_batch(views: Sequence[TorchView], inputs: Sequence[InputSpec]) -> bool:
    """Whether twice the declared batch gives what two runs of it give.

    Exporters write a fixed batch into the file though few graphs depend on it.
    """
    least = fixed_batch(inputs)
    assert least is not None
    try:
        both = [_random(inputs, seed) for seed in (0, 1)]
        joined = {n: torch.cat([part[n] for part in both]) for n in both[0]}
        for view in views:
            runs = [run(view, feeds) for feeds in (*both, joined)]
            if not all(_agree(runs, name, least) for name in view.outputs):
                return False
    except (PrunecError, RuntimeError, ValueError, IndexError):  # torch's own for wrong shapes
        return False
    return True


def _random(inputs: Sequence[InputSpec], seed: int) -> dict[str, Tensor]:
    return {n: from_numpy(a) for n, a in random_feeds(inputs, seed).items()}


def _agree(runs: Sequence[Mapping[str, Tensor]], name: str, least: int) -> bool:
    first, second, joined = (r[name] for r in runs)
    apart = torch.cat([first, second]) if first.ndim else first
    if apart.shape != joined.shape or len(first) != least:
        return False
    if not apart.is_floating_point():
        return True
    gap = (apart.float() - joined.float()).abs().max() if apart.numel() else torch.zeros(())
    return bool(gap <= TOLERANCE * apart.float().abs().max().clamp_min(1e-6))


def run(
    view: TorchView, feeds: Mapping[str, Tensor], wanted: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """The values of a view in evaluation mode, without gradients."""
    before = view.training
    view.eval()
    try:
        with torch.no_grad():
            found: dict[str, Tensor] = view(feeds, wanted)
            return found
    finally:
        view.train(before)


def few(batch: Batch, samples: int | None) -> dict[str, Tensor]:
    """The feeds of the first samples; of all for None."""
    return {name: feed[:samples] for name, feed in batch.feeds.items()}


def check_same_shapes(
    pairs: Sequence[tuple[str, str]], taught: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> None:
    """Raise ModelError where an output of the teacher has another shape than the student's."""
    for theirs, mine in pairs:
        a, b = tuple(taught[theirs].shape), tuple(own[mine].shape)
        if a != b:
            raise ModelError(f"output {mine!r} is {b}, the teacher's {theirs!r} is {a}")

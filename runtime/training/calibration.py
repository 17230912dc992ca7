"""First grids of activations, from a few batches of training data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from prunec.compiler.errors import DataError
from prunec.compiler.quantisation import FloatArray, Grid, Quantiser, Range
from prunec.passes.quantize.places import Places
from prunec.runtime.torch_view import TorchView
from prunec.runtime.training.batch import Batch


@torch.no_grad()
def activation_grids(
    view: TorchView,
    batches: Iterable[Batch],
    places: Places,
    quantiser: Quantiser,
    ranges: Range,
) -> dict[str, Grid]:
    """Grids of activations, from the view in evaluation mode. Raises DataError without a batch."""
    names = tuple(places.activations)
    if not names:
        return {}
    reducers = {name: ranges.start(1) for name in names}
    mode, seen = view.training, False
    view.eval()
    try:
        for batch in batches:
            seen = True
            for name, value in view(batch.feeds, names).items():
                reducers[name].add(value.float().cpu().numpy().reshape(1, -1))
    finally:
        view.train(mode)
    if not seen:
        raise DataError("the training data holds no sample to calibrate with")
    found = {}
    for name, bits in places.activations.items():

        def fit(low: FloatArray, high: FloatArray, bits: int = bits) -> Grid:
            return quantiser(low, high, bits)

        found[name] = fit(*reducers[name].ranges(fit))
    return found


def enough(batches: Iterator[Batch], samples: int) -> Iterator[Batch]:
    """Batches until so many samples were seen."""
    seen = 0
    for batch in batches:
        if seen >= samples:
            return
        seen += batch.samples
        yield batch

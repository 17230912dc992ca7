"""The dense model as a teacher, with its answers kept where they do not change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prunec.runtime.torch_view import TorchView
from prunec.runtime.training.batch import Batch


class Teacher:
    """Values of a frozen view for batches; what was asked before is looked up.

    samples: how many numbers `Batch.index` can have; 0 where answers must not be kept, since the
    inputs change (augmentation, streams). limit: bytes that kept answers may take.
    """

    def __init__(
        self, view: TorchView, wanted: Sequence[str], samples: int = 0, limit: int = 512 * 2**20
    ) -> None:
        self.view = view.eval().requires_grad_(False)
        self.wanted = tuple(dict.fromkeys(wanted))
        self._samples, self._limit = samples, limit
        self._kept: dict[str, Tensor] = {}
        self._known = torch.zeros(samples, dtype=torch.bool)
        self._device: torch.device | None = None

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The wanted values, without gradients."""
        index = batch.index
        keeps = bool(self._samples) and index is not None
        if keeps and bool(self._known[index].all()):
            device = next(iter(batch.feeds.values())).device
            return {name: kept[index].to(device) for name, kept in self._kept.items()}
        found = self._ask(batch)
        if keeps and self._room(found, batch.samples):
            assert index is not None
            for name, value in found.items():
                self._kept[name][index] = value.cpu()
            self._known[index] = True
        return found

    def _ask(self, batch: Batch) -> dict[str, Tensor]:
        device = next(iter(batch.feeds.values())).device
        if self._device != device:
            self.view.to(device)
            self._device = device
        with torch.no_grad():
            return {n: v.detach() for n, v in self.view(batch.feeds, wanted=self.wanted).items()}

    def _room(self, found: dict[str, Tensor], samples: int) -> bool:
        """Whether answers are kept; makes the room on first use."""
        if self._kept:
            return True
        lengths = {v.shape[0] if v.ndim else 0 for v in found.values()}
        one = sum(v[0].numel() * v.element_size() for v in found.values() if v.ndim and len(v))
        if lengths != {samples} or one * self._samples > self._limit:
            self._samples = 0
            return False
        self._kept = {n: v.new_empty((self._samples, *v.shape[1:]), device="cpu")
                      for n, v in found.items()}  # fmt: skip
        return True

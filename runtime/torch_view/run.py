"""One pass through a program: values, edits, and what is let go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from prunec.runtime.torch_view.program import Held, Schedule, Step
from prunec.runtime.torch_view.row import Array
from prunec.runtime.torch_view.tensors import from_numpy

Edit = Callable[[Tensor], Tensor]
Place = tuple[str, int]  # a node and the position of an input of its
Edits = Mapping[Any, Edit]  # by value name, or by Place


def composed(first: Edits, then: Edits) -> dict[Any, Edit]:
    """Both, the first before the second where both edit what one node reads.

    What edits a value itself comes before what edits the places that read it, by `Run`.
    """
    both: dict[Any, Edit] = {**first, **then}
    for key in first.keys() & then.keys():
        both[key] = _chain(first[key], then[key])
    return both


def _chain(first: Edit, then: Edit) -> Edit:
    return lambda value: then(first(value))


class Run:
    """The values of one pass.

    given: weights, constants and feeds. stored: constant -> its tensor on the device, for those
    that are arrays in `given`.
    """

    def __init__(
        self,
        given: dict[str, Held],
        stored: Mapping[str, Tensor],
        edits: Edits,
        device: torch.device,
        training: bool,
    ) -> None:
        self.values, self.stored, self.edits = given, stored, edits
        self.device, self.training = device, training
        self.edited_nodes = {key[0] for key in edits if isinstance(key, tuple)}
        for name in edits.keys() & given.keys():
            given[name] = edits[name](self.tensor(name, given[name]))

    def carry_out(self, schedule: Schedule) -> None:
        """Compute what a schedule computes."""
        for step, dead in schedule:
            self._carry_out(step)
            for name in dead:
                self.values.pop(name, None)

    def wanted(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Values by name."""
        return {name: self.tensor(name, self.values[name]) for name in names}

    def tensor(self, name: str | None, held: Held) -> Tensor:
        """A value as a tensor on the device."""
        if isinstance(held, Tensor):
            return held
        if name is not None and name in self.stored and held is self.values[name]:
            return self.stored[name]
        return from_numpy(held).to(self.device)

    def _carry_out(self, step: Step) -> None:
        held = [None if name is None else self.values[name] for name in step.reads]
        if step.call.name in self.edited_nodes:
            held = [self._edited_input(step, k, value) for k, value in enumerate(held)]

        def tensor(position: int, array: Array) -> Tensor:
            return self.tensor(step.reads[position], array)

        made = step.run(held, self.training, tensor)
        for name, result in zip(step.writes, made, strict=False):
            if name is not None:
                edit = self.edits.get(name)
                self.values[name] = edit(self.tensor(None, result)) if edit else result

    def _edited_input(self, step: Step, position: int, held: Held | None) -> Held | None:
        edit = self.edits.get((step.call.name, position))
        if edit is None or held is None:
            return held
        return edit(self.tensor(step.reads[position], held))

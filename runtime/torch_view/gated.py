"""A torch view whose channel groups have gates: factors that are 1, 0 or anything between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from prunec.compiler.errors import ModelError
from prunec.runtime.subject import Subject
from prunec.runtime.torch_view import TorchView
from prunec.runtime.torch_view.points import Point, points_of
from prunec.runtime.torch_view.run import Edits, composed
from prunec.runtime.torch_view.view import NO_EDITS

Feeds = Mapping[str, Tensor]
Layout = tuple[int, int]  # the axis of samples, and how many indices each of them has there


class GatedView:
    """A view of the dense model in which every point of a group is multiplied by its gate.

    With gates of 0 and 1 the outputs are those of `passes.gate.gate`; with one row of gates per
    sample, one backward pass gives the gradient of every sample's loss for all groups. See
    `points_of` for where gates act, and why once per path.
    """

    def __init__(self, subject: Subject, view: TorchView) -> None:
        self.view = view
        self.points = points_of(subject)
        self.number_of_groups = subject.graph.number_of_groups
        self._indices: dict[tuple[int, torch.device], Tensor] = {}
        self._layouts: dict[int, Layout | None] | None = None

    def __call__(
        self,
        feeds: Feeds,
        gates: Tensor,
        wanted: Sequence[str] | None = None,
        edits: Edits = NO_EDITS,
    ) -> dict[str, Tensor]:
        """Outputs by name, or the `wanted` values.

        gates: (1, number_of_groups) for all samples, or (batch, number_of_groups). edits: of the
        view's values; gates act on what these leave. Raises ModelError where a value that is gated
        has no axis of samples for gates of its own.
        """
        if gates.shape[1:] != (self.number_of_groups,):
            raise ValueError(f"gates of shape {tuple(gates.shape)}, {self.number_of_groups} groups")
        if len(gates) > 1 and self._layouts is None:
            self._layouts = self._find_layouts(feeds, len(gates))
        # Groups are KEPT = -1 where a channel never leaves: the last column.
        padded = torch.cat([gates, gates.new_ones(len(gates), 1)], 1)
        outputs: dict[str, Tensor] = self.view(feeds, wanted, composed(edits, self._edits(padded)))
        return outputs

    def _edits(self, padded: Tensor) -> dict[tuple[str, int], Callable[[Tensor], Tensor]]:
        done: dict[tuple[object, ...], Tensor] = {}
        numbered = list(enumerate(self.points))
        edits: dict[tuple[str, int], Callable[[Tensor], Tensor]] = {}
        for at, own in groupby(numbered, lambda item: (item[1].node, item[1].position)):
            edits[at] = partial(self._gated, own=list(own), padded=padded, done=done)
        return edits

    def _gated(
        self,
        value: Tensor,
        own: Sequence[tuple[int, Point]],
        padded: Tensor,
        done: dict[tuple[object, ...], Tensor],
    ) -> Tensor:
        # Several nodes may read one value along the same groups: gated once.
        key = tuple((p.value, p.axis, p.groups.tobytes()) for _, p in own)
        if key not in done:
            for number, _ in own:
                value = value * self._factor(number, padded, value)
            done[key] = value
        return done[key]

    def _factor(self, number: int, padded: Tensor, value: Tensor) -> Tensor:
        """Gates of one point, broadcastable to its value."""
        point = self.points[number]
        gates = padded.index_select(1, self._index(number, padded.device)).to(value.dtype)
        shape = [1] * value.ndim
        shape[point.axis] = gates.shape[1]
        if len(gates) == 1:
            return gates.reshape(shape)
        layout = None if self._layouts is None else self._layouts[number]
        if layout is None or layout[0] == point.axis:
            raise ModelError(
                f"{point.value}, read by {point.node}, is one for all samples: "
                "gates can't differ between them"
            )
        axis, times = layout
        gates = gates.repeat_interleave(times, 0) if times > 1 else gates
        shape[axis] = len(gates)
        return (gates if axis < point.axis else gates.T).reshape(shape)

    def _index(self, number: int, device: torch.device) -> Tensor:
        key = number, device
        if key not in self._indices:
            groups = self.points[number].groups
            self._indices[key] = torch.tensor(
                [g if g >= 0 else self.number_of_groups for g in groups.tolist()], device=device
            )
        return self._indices[key]

    def _find_layouts(self, feeds: Feeds, batch: int) -> dict[int, Layout | None]:
        """Per point, the axis whose size follows the number of samples.

        Where the model takes one batch size only, it is the first axis that is a multiple.
        """
        try:
            one, two = (self._shapes({n: x[:k] for n, x in feeds.items()}) for k in (1, 2))
        except (RuntimeError, ModelError):
            whole = self._shapes(feeds)
            return {k: _multiple(shape, batch) for k, shape in whole.items()}
        return {k: _follows(one[k], two[k]) for k in one}

    def _shapes(self, feeds: Feeds) -> dict[int, tuple[int, ...]]:
        found: dict[int, tuple[int, ...]] = {}
        at: dict[tuple[str, int], list[int]] = defaultdict(list)
        for number, point in enumerate(self.points):
            at[point.node, point.position].append(number)

        def note(value: Tensor, numbers: Sequence[int]) -> Tensor:
            found.update((number, tuple(value.shape)) for number in numbers)
            return value

        edits = {key: partial(note, numbers=own) for key, own in at.items()}
        mode = self.view.training
        self.view.eval()  # a look at shapes moves no running statistics and draws nothing
        try:
            with torch.no_grad():
                self.view(feeds, None, edits)
        finally:
            self.view.train(mode)
        return found


def _follows(one: Sequence[int], two: Sequence[int]) -> Layout | None:
    """The axis along which two samples take twice the room of one."""
    axes = [k for k, (a, b) in enumerate(zip(one, two, strict=True)) if a and b == 2 * a]
    return (axes[0], one[axes[0]]) if len(axes) == 1 else None


def _multiple(shape: Sequence[int], batch: int) -> Layout | None:
    axes = [k for k, size in enumerate(shape) if size and size % batch == 0]
    return (axes[0], shape[axes[0]] // batch) if axes else None

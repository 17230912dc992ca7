"""A masked contraction as a grouped one: every block of outputs reads its own inputs alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prunec.compiler.partition import Partition
from prunec.compiler.recovery import Array
from prunec.passes.recovery.forms import Form, Places
from prunec.passes.recovery.moments import FloatArray
from prunec.passes.recovery.sites import Site, Use
from prunec.passes.recovery.tails import Tail


@dataclass(frozen=True, slots=True, eq=False)
class Blocked:
    """A `Form` of G groups made of one without groups, whose weight is 0 off the blocks.

    form: ``y = x W + b`` with one group, D columns and M outputs. columns: (G, D / G) those that a
    block reads; outputs_of: (G, M / G) the channels that it makes. What is regressed on `rows` is
    the block alone, so that its moments are the sub-matrix of those of the whole; `stored` writes 0
    everywhere else. Outputs, as everywhere in groups, come block after block: see `Site.order`.
    """

    form: Form
    columns: Places
    outputs_of: Places

    @property
    def data(self) -> int:
        """As of the whole."""
        return self.form.data

    @property
    def weight(self) -> int:
        """As of the whole."""
        return self.form.weight

    @property
    def bias(self) -> int | None:
        """As of the whole."""
        return self.form.bias

    @property
    def bias_scale(self) -> float:
        """As of the whole."""
        return self.form.bias_scale

    @property
    def source_axis(self) -> int:
        """As of the whole."""
        return self.form.source_axis

    @property
    def target_axis(self) -> int:
        """As of the whole."""
        return self.form.target_axis

    def places(self, y: tuple[int, ...]) -> tuple[int, int]:
        """As of the whole."""
        return self.form.places(y)

    def agrees(self, x: tuple[int, ...], y: tuple[int, ...]) -> bool:
        """As of the whole."""
        return self.form.agrees(x, y)

    def rows(self, x: Array, y: tuple[int, ...], places: Places) -> FloatArray:
        """(G, R, D / G)."""
        return _split(self.form.rows(x, y, places)[0], self.columns)

    def outputs(self, y: Array, places: Places) -> FloatArray:
        """(G, R, M / G)."""
        return _split(self.form.outputs(y, places)[0], self.outputs_of)

    def matrix(self, weight: Array) -> FloatArray:
        """(G, D / G, M / G); what lies off the blocks is not looked at."""
        whole = self.form.matrix(weight)[0]
        return np.ascontiguousarray(whole[self.columns[:, :, None], self.outputs_of[:, None, :]])

    def stored(self, matrix: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """A weight of that shape, 0 off the blocks."""
        whole = np.zeros((self.columns.size, self.outputs_of.size))
        whole[self.columns[:, :, None], self.outputs_of[:, None, :]] = matrix
        return self.form.stored(whole[None], shape)

    def sources(self, channels: int, columns: int) -> Places:
        """(G, D / G)."""
        own = self.form.sources(channels, self.columns.size)[0]
        return np.asarray(own[self.columns], np.int64)


def _split(rows: FloatArray, taken: Places) -> FloatArray:
    """(R, N) -> (G, R, N / G), contiguous, as the products that follow want it."""
    return np.ascontiguousarray(rows[:, taken].transpose(1, 0, 2))


def blocked(site: Site, partition: Partition) -> Site:
    """The site with its uses as grouped ones. partition: over the axes of its weight as read.

    Raises ValueError where the uses have groups already, or other numbers of channels.
    """
    form = site.uses[0].form
    whole = form.matrix(np.zeros(site.weight.shape, np.float32))
    source = form.sources(len(partition.inputs), whole.shape[1])
    if len(whole) != 1 or whole.shape[2] != len(partition.outputs):
        raise ValueError(f"{site.weight.name}: no partition of {whole.shape} can be {partition}")
    order = np.argsort(partition.outputs, kind="stable")
    columns = np.argsort(np.array(partition.inputs)[source[0]], kind="stable")
    parts = columns.reshape(partition.groups, -1), order.reshape(partition.groups, -1)
    uses = tuple(_use(use, Blocked(use.form, *parts), order) for use in site.uses)
    return replace(site, uses=uses, order=order)


def _use(use: Use, form: Blocked, order: Places) -> Use:
    """All that goes with outputs in the order of the blocks; `slot` is of stored vectors."""
    tail: Tail = replace(use.tail, scale=use.tail.scale[order], shift=use.tail.shift[order])
    return replace(use, form=form, bias=use.bias[order], tail=tail)

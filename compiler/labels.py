"""Labels: one integer per channel, tied by a union-find that works on whole arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]  # (n,) one label per index of one axis
AxisLabels = tuple[Labels, ...]  # one array per axis of a value
FROZEN = 0


class Unsupported(Exception):
    """Raised by a rule for a form that it cannot follow; the node is frozen, with this reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Tie:
    """A recorded equality ``left == right``: who asked for it, and why."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    node: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """A pending choice: cells (prod(sizes),) in C order over the index space of `factors`.

    A cell leaves when its index on the one removable factor leaves; the other factors stay whole.
    """

    cells: Labels
    factors: tuple[Labels, ...]
    node: str


@dataclass(frozen=True, slots=True, eq=False)
class Resize:
    """An attribute or integer input whose elements follow the kept counts of label arrays.

    key: attribute name, or input position. elements: (flat position, labels) pairs; the element
    becomes the kept count of its labels. value: the complete dense contents. drop: attributes to
    remove when the patch is written (`num_outputs` of a Split that gets explicit sizes).
    """

    node: str
    key: str | int
    value: tuple[int, ...]
    scalar: bool
    elements: tuple[tuple[int, Labels], ...]
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Reindex:
    """Constant indices into an axis: they follow the positions that remain.

    key: input position of the indices, or None where the whole node (a strided Slice) becomes a
    Gather. source: labels of the indexed axis. indices: dense indices, any shape; `picked` are
    the label arrays of the axes that the indices have.
    """

    node: str
    key: int | None
    axis: int
    source: Labels
    indices: NDArray[np.int64]
    picked: tuple[Labels, ...]


class Coupler:
    """Collects what the rules say. Mutable; lives inside one interpretation."""

    def __init__(self) -> None:
        self._parent: NDArray[np.int64] = np.zeros(1024, np.int64)
        self._size = 1  # label 0 is FROZEN
        self.node = ""
        self.ties: list[Tie] = []
        self.factors: list[Factor] = []
        self.freed: list[Labels] = []
        self.products: list[tuple[int, tuple[Labels, ...]]] = []
        self.patches: list[Resize | Reindex] = []
        self.reads: list[Labels] = []
        self.auxiliary: set[tuple[str, int]] = set()

    @property
    def size(self) -> int:
        """How many labels exist, FROZEN included."""
        return self._size

    def fresh(self, size: int) -> Labels:
        """`size` new labels, tied to nothing."""
        first, self._size = self._size, self._size + size
        if self._size > len(self._parent):
            grown = np.zeros(max(self._size, 2 * len(self._parent)), np.int64)
            grown[:first] = self._parent[:first]
            self._parent = grown
        labels = np.arange(first, self._size, dtype=np.int64)
        self._parent[first : self._size] = labels
        return labels

    def frozen(self, size: int) -> Labels:
        """Labels of an axis that never shrinks."""
        return np.zeros(size, np.int64)

    def find(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The representative of each label: equal representatives leave together; 0 never."""
        root = self._parent[labels]
        while True:
            above = self._parent[root]
            if np.array_equal(above, root):
                return root
            root = above

    def tie(self, left: NDArray[np.int64], right: NDArray[np.int64], reason: str = "") -> None:
        """Make labels equal, element by element, with numpy broadcasting."""
        if left is right:
            return
        try:
            pair = np.broadcast_arrays(left, right)
        except ValueError:
            raise Unsupported(
                f"axes of {left.shape} and {right.shape} channels meet ({reason})"
            ) from None
        left, right = (a.reshape(-1) for a in pair)
        self.ties.append(Tie(left, right, self.node, reason))
        self._union(left, right)

    def _union(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        while True:
            a, b = self.find(left), self.find(right)
            apart = a != b
            if not apart.any():
                break
            low, high = np.minimum(a[apart], b[apart]), np.maximum(a[apart], b[apart])
            # Several links may meet in one root: the smallest wins, the rest follow next round.
            np.minimum.at(self._parent, high, low)
        self._parent[left] = a
        self._parent[right] = a

    def freeze(self, labels: NDArray[np.int64], reason: str) -> None:
        """Forbid the removal of these channels; `reason` is shown to the user."""
        if labels.any():
            self.tie(labels, np.zeros(1, np.int64), reason)

    def free(self, labels: Labels) -> None:
        """Allow removal: these channels are made by a weight that can be sliced."""
        self.freed.append(labels)

    def factor(self, cells: Labels, factors: Sequence[Labels]) -> None:
        """Relate the cells of a merged axis to the axes it is made of (a reshape).

        Decided once all ties are known: a merge or a split must come out rectangular, so one
        factor stays removable and the others stay whole.
        """
        self.factors.append(Factor(cells, tuple(factors), self.node))

    def macs(self, *axes: Labels, scale: int = 1) -> None:
        """Count ``scale * product of kept counts`` multiply-accumulates."""
        self.products.append((scale, axes))

    def read(self, labels: Labels) -> None:
        """Mark an activation axis over which a consumer sums: here a channel's value matters."""
        self.reads.append(labels)

    def resize(
        self,
        key: str | int,
        value: Any,
        elements: dict[int, Labels],
        drop: tuple[str, ...] = (),
    ) -> None:
        """Let elements of an attribute or integer input follow kept counts of label arrays."""
        live = tuple((k, labels) for k, labels in sorted(elements.items()) if labels.any())
        if live:
            dense = np.asarray(value)
            flat = tuple(int(v) for v in dense.reshape(-1))
            self.patches.append(Resize(self.node, key, flat, dense.ndim == 0, live, drop))

    def reindex(
        self,
        key: int | None,
        axis: int,
        source: Labels,
        indices: NDArray[np.int64],
        picked: tuple[Labels, ...],
    ) -> None:
        """Let constant indices follow the positions that remain on the axis they point into."""
        if source.any():
            patch = Reindex(self.node, key, axis, source, indices, picked)
            self.patches.append(patch)

    def settle(self) -> None:
        """Decide every pending factor, in graph order, until nothing is left to decide."""
        for pending in self.factors:
            self.node = pending.node
            self._choose(pending)
        self.factors.clear()

    def _choose(self, pending: Factor) -> None:
        sizes = tuple(len(f) for f in pending.factors)
        if not all(sizes):
            return
        cells = pending.cells.reshape(sizes)
        roots = self.find(cells)
        removable = [bool(self.find(f).any()) for f in pending.factors]
        candidates = [t for t in range(len(sizes)) if removable[t] and sizes[t] > 1]
        if not roots.any():
            candidates = []
        best = max(
            candidates,
            key=lambda t: (self._groups_left(roots, pending.factors[t], t), -t),
            default=None,
        )
        for t, labels in enumerate(pending.factors):
            if t != best:
                self.freeze(labels, "one of several axes that a reshape merges or splits")
        if best is None:
            self.freeze(cells, "a reshape merges or splits it with axes that stay whole")
            return
        shape = [1] * len(sizes)
        shape[best] = sizes[best]
        self.tie(cells, pending.factors[best].reshape(shape), "reshape")

    def _groups_left(self, roots: NDArray[np.int64], factor: Labels, axis: int) -> int:
        """How many removable groups remain when `axis` of the cells is the removable one."""
        lines = np.moveaxis(roots, axis, 0).reshape(len(factor), -1)
        trial = Coupler()
        names, local = np.unique(
            np.concatenate([[FROZEN], self.find(factor), lines.reshape(-1)]), return_inverse=True
        )
        trial.fresh(len(names) - 1)
        local = local.astype(np.int64)
        line = local[1 + len(factor) :].reshape(lines.shape)
        trial._union(
            np.broadcast_to(local[1 : 1 + len(factor), None], line.shape).reshape(-1),
            line.reshape(-1),
        )
        return len(np.unique(trial.find(local[1 : 1 + len(factor)]))) - bool(
            (trial.find(local[1 : 1 + len(factor)]) == FROZEN).any()
        )

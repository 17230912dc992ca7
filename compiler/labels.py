"""Labels: one integer per channel, tied by a union-find that works on whole arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.encoding import Encoding
from prunec.compiler.freedom import Freedom
from prunec.compiler.reasons import Reason

Labels = NDArray[np.int64]  # (n,) one label per index of one axis
AxisLabels = tuple[Labels, ...]  # one array per axis of a value
FROZEN = 0


class Unsupported(Exception):
    """Raised by a rule for a form that it cannot follow; the node is frozen, with this reason."""

    def __init__(self, text: str, reason: Reason = Reason.UNSUPPORTED_FORM) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class Tie:
    """A recorded equality ``left == right``: who asked for it, and why.

    barrier: the kind of reason where the tie freezes, else None.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    node: str
    reason: str
    barrier: Reason | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Inexact:
    """A node whose result for the other channels changes when some of `labels` leave."""

    node: str
    labels: Labels
    reason: Reason
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """A pending choice: cells (prod(sizes),) in C order over the index space of `factors`.

    A cell leaves when its index on the one removable factor leaves; the other factors stay whole.
    """

    cells: Labels
    factors: tuple[Labels, ...]
    node: str


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """An addition along one axis whose result has labels of its own; decided in `settle_joins`."""

    node: str
    out: Labels
    parts: tuple[Labels, ...]


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


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A convolution whose kernel may lose positions.

    labels: per spatial axis of the kernel. pads: (before, after) per axis; dilations likewise.
    """

    node: str
    labels: AxisLabels
    pads: tuple[tuple[int, int], ...]
    dilations: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pin:
    """A float attribute to write with its dense value once some of `labels` leave."""

    node: str
    key: str
    value: float
    labels: Labels


class Coupler:
    """Collects what the rules say. Mutable; lives inside one interpretation."""

    def __init__(self, freedom: Freedom | None = None) -> None:
        self.freedom = freedom or Freedom()
        self._parent: NDArray[np.int64] = np.zeros(1024, np.int64)
        self._size = 1  # label 0 is FROZEN
        self.node = ""
        self.ties: list[Tie] = []
        self.factors: list[Factor] = []
        self.freed: list[Labels] = []
        self.freed_by: list[str] = []  # node of each
        self.products: list[tuple[int, tuple[Labels, ...]]] = []
        self.products_of: list[str] = []  # node of each
        self.origins: dict[int, tuple[Labels, Reason]] = {}  # by id() of frozen arrays
        self.patches: list[Resize | Reindex | Pin] = []
        self.reads: list[Labels] = []
        self.auxiliary: set[tuple[str, int]] = set()
        self.encodings: dict[tuple[str, int], Encoding] = {}
        self.zeros: dict[tuple[str, int], str] = {}
        self.inexacts: list[Inexact] = []
        self.heads: list[Labels] = []
        self._compositions: dict[int, tuple[Labels, tuple[Labels, ...]]] = {}
        self.recurs: list[tuple[str, int, int]] = []
        self.joined: list[Joined] = []
        self.inside = 0  # how many bodies of control flow the node at hand is inside of
        self.windows: list[Window] = []

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

    def frozen(self, size: int, reason: Reason | None = None) -> Labels:
        """Labels of an axis that never shrinks; what meets it is frozen for this reason."""
        labels = np.zeros(size, np.int64)
        if reason is not None:
            self.origins[id(labels)] = (labels, reason)
        return labels

    def origin(self, labels: NDArray[np.int64]) -> Reason | None:
        """The reason that came with a frozen array, or with the one that this is a part of."""
        owner = labels if labels.base is None else labels.base
        return self.origins[id(owner)][1] if id(owner) in self.origins else None

    def find(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The representative of each label: equal representatives leave together; 0 never."""
        root = self._parent[labels]
        while True:
            above = self._parent[root]
            if np.array_equal(above, root):
                return root
            root = above

    def tie(
        self,
        left: NDArray[np.int64],
        right: NDArray[np.int64],
        reason: str = "",
        barrier: Reason | None = None,
    ) -> None:
        """Make labels equal, element by element, with numpy broadcasting."""
        if left is right:
            return
        barrier = barrier or self.origin(left) or self.origin(right)
        try:
            pair = np.broadcast_arrays(left, right)
        except ValueError:
            raise Unsupported(
                f"axes of {left.shape} and {right.shape} channels meet ({reason})"
            ) from None
        left, right = (a.reshape(-1) for a in pair)
        self.ties.append(Tie(left, right, self.node, reason, barrier))
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

    def freeze(self, labels: NDArray[np.int64], reason: Reason, text: str) -> None:
        """Forbid the removal of these channels; reason and text are shown to the user."""
        if labels.any():
            self.tie(labels, np.zeros(1, np.int64), text, reason)

    def inexact(self, labels: Labels, reason: Reason, text: str) -> None:
        """These channels decide what the node makes of the others (a norm's statistics, say).

        Frozen, unless the run allows it (`Freedom.residual`): then the node works on the channels
        that stay, and the oracle compares with the dense node run on those alone.
        """
        if not self.freedom.residual:
            self.freeze(labels, reason, text)
        elif labels.any():
            self.inexacts.append(Inexact(self.node, labels, reason, text))

    def head(self, labels: Labels) -> None:
        """Mark an axis of attention heads: activations meet head by head along it."""
        self.heads.append(labels)

    def recur(self, position: int, axis: int) -> None:
        """The node makes channels inside itself through this axis of an input, a weight.

        The state of a recurrence, or queries and keys that an attention projects or adds a bias
        to: no activation stands there that could be gated, so the gated graph gates the weight.
        So it does along the positions of a kernel.
        """
        self.recurs.append((self.node, position, axis))

    def join(self, parts: Sequence[Labels]) -> Labels:
        """Labels of a sum along an axis that all operands have: its own where they differ.

        For operands in which a removed channel is zero. See `settle_joins`.
        """
        roots = [self.find(part) for part in parts]
        if all(np.array_equal(root, roots[0]) for root in roots):
            return next((part for part in parts if part.any()), parts[0])
        out = self.fresh(len(parts[0]))
        self.joined.append(Joined(self.node, out, tuple(parts)))
        return out

    def free(self, labels: Labels) -> None:
        """Allow removal: these channels are made by a weight that can be sliced."""
        self.freed.append(labels)
        self.freed_by.append(self.node)

    def factor(self, cells: Labels, factors: Sequence[Labels]) -> None:
        """Relate the cells of a merged axis to the axes it is made of (a reshape).

        Decided once all ties are known: a merge or a split must come out rectangular, so one
        factor stays removable and the others stay whole.
        """
        self.factors.append(Factor(cells, tuple(factors), self.node))

    def compose(self, whole: Labels, factors: Sequence[Labels]) -> None:
        """Remember that an axis is the product of these, outermost first."""
        self._compositions[id(whole)] = whole, tuple(factors)

    def composition(self, whole: Labels) -> tuple[Labels, ...] | None:
        """The axes that this very array was made of or split into, if it was."""
        known = self._compositions.get(id(whole))
        return None if known is None else known[1]

    def macs(self, *axes: Labels, scale: int = 1) -> None:
        """Count ``scale * product of kept counts`` multiply-accumulates."""
        self.products.append((scale, axes))
        self.products_of.append(self.node)

    def repeat(self, first: int, times: int) -> None:
        """Count the products from number `first` on so many times: those of a loop's body."""
        self.products[first:] = [(scale * times, axes) for scale, axes in self.products[first:]]
        if not times:
            del self.products[first:], self.products_of[first:]

    def read(self, labels: Labels) -> None:
        """Mark an activation axis over which a consumer sums: here a channel's value matters."""
        self.reads.append(labels)

    def encode(self, position: int, encoding: Encoding) -> None:
        """An integer input is a weight: a parameter, scored by the numbers that it encodes."""
        self.encodings[self.node, position] = encoding

    def zero(self, position: int, name: str) -> None:
        """In this integer output the contents of value `name` stand for zero ("": the number 0).

        A removed channel is then that integer, so that consumers which subtract it lose nothing.
        """
        self.zeros[self.node, position] = name

    def resize(
        self,
        key: str | int,
        value: Any,
        elements: dict[int, Labels],
        drop: tuple[str, ...] = (),
    ) -> None:
        """Let elements of an attribute or integer input follow kept counts of label arrays."""
        live = tuple((k, labels) for k, labels in sorted(elements.items()) if labels.any())
        # What a branch beside a stream gives as a size may shrink where the stream does not.
        computed = self.freedom.decouple and isinstance(key, int)
        if live or computed:
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

    def pin(self, key: str, value: float, labels: Labels) -> None:
        """Write this float attribute, which is absent, once channels of `labels` leave.

        For a default that depends on a size: 1 / sqrt(head size), the scale of an attention.
        """
        if labels.any():
            self.patches.append(Pin(self.node, key, value, labels))

"""A weight matrix in blocks: which outputs of a convolution read which of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.ranges import ranges

IntArray = NDArray[np.int64]
REMOVED = -1  # the group of a channel that the plan removes


@dataclass(frozen=True, slots=True)
class Partition:
    """G groups of equal size, over outputs (axis of size F) and inputs (C) of one weight.

    outputs: (F,) group of each output channel; inputs: (C,) group of each input channel; 0 ... G-1,
    or REMOVED. An output reads the inputs of its own group and no others. Group numbers are the
    order in which the blocks stand in the grouped convolution, where nothing else decides it.
    """

    groups: int
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raise ValueError unless all groups are there and of equal size."""
        for name, ids in (("outputs", self.outputs), ("inputs", self.inputs)):
            array = np.asarray(ids, np.int64)
            live = array[array != REMOVED]
            if ((live < 0) | (live >= self.groups)).any():
                raise ValueError(f"{name}: groups are numbered 0 to {self.groups - 1}")
            sizes = np.bincount(live, minlength=self.groups)
            if len(live) == 0 or (sizes != sizes[0]).any():
                raise ValueError(f"{name}: groups have sizes {sizes.tolist()}, not one size")

    @classmethod
    def of(cls, outputs: Sequence[int] | IntArray, inputs: Sequence[int] | IntArray) -> Partition:
        """From the groups of outputs and of inputs.

        >>> Partition.of([0, 1, 0, 1], [1, 0]).groups
        2
        """
        rows, columns = (tuple(np.asarray(x, np.int64).tolist()) for x in (outputs, inputs))
        return cls(1 + max((*rows, *columns)), rows, columns)

    def mask(self) -> NDArray[np.bool_]:
        """(F, C) True where an output reads an input; False for removed channels."""
        rows, columns = np.array(self.outputs)[:, None], np.array(self.inputs)[None, :]
        return np.asarray((rows == columns) & (rows != REMOVED))

    def to_dict(self) -> dict[str, Any]:
        """JSON values: per side its size and the positions of each group."""
        out = {}
        for name, ids in (("outputs", self.outputs), ("inputs", self.inputs)):
            array = np.array(ids)
            groups = [ranges(np.flatnonzero(array == g).tolist()) for g in range(self.groups)]
            out[name] = {"size": len(ids), "groups": groups}
        return out

    def sliced(self) -> Partition:
        """The same without the removed channels: of the weight as it is after slicing."""
        return Partition(
            self.groups,
            tuple(g for g in self.outputs if g != REMOVED),
            tuple(g for g in self.inputs if g != REMOVED),
        )

    def spread(
        self, outputs: Sequence[int], inputs: Sequence[int], sizes: tuple[int, int]
    ) -> Partition:
        """The inverse of `sliced`: kept indices of the dense axes, and their sizes (F, C).

        >>> Partition.of([0, 1], [0, 1]).spread([0, 2], [1, 2], (3, 3)).outputs
        (0, -1, 1)
        """
        axes = []
        for ids, kept, size in zip(
            (self.outputs, self.inputs), (outputs, inputs), sizes, strict=True
        ):
            axis = np.full(size, REMOVED, np.int64)
            axis[np.asarray(kept, np.int64)] = ids
            axes.append(tuple(axis.tolist()))
        return Partition(self.groups, axes[0], axes[1])

"""Integers that stand for real numbers: how stored weights are read, and which integer is zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute

MOVES = frozenset({"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


@dataclass(frozen=True, slots=True)
class Encoding:
    """A stored tensor of integers (or float8) stands for ``(q - zero) * product of scales``.

    scales, zero: names of the values that hold them; without scales only the order of magnitude
    within the tensor is known. axis: where a vector of scales runs; scales with more axes are
    aligned from the left. block: consecutive indices of `axis` that share a scale, 0 for one
    each. bits: of an element where several are packed into one byte along the last axis, else 0.
    middle: the zero where no zero point is given.
    """

    scales: tuple[str, ...] = ()
    zero: str = ""
    axis: int = 0
    block: int = 0
    bits: int = 0
    middle: int = 0

    @property
    def packing(self) -> int:
        """Elements per stored item."""
        return 8 // self.bits if self.bits else 1


@dataclass(frozen=True, slots=True, eq=False)
class Zero:
    """The integer that stands for zero in a value, the same for all of its elements.

    name: the value that holds it, "" for a literal 0. contents: what is known of it.
    """

    name: str
    contents: NDArray[Any] | None

    def is_literal(self) -> bool:
        """Whether it is the number 0."""
        return not self.name or (self.contents is not None and not np.any(self.contents))

    def agrees(self, other: Zero) -> bool:
        """Whether both are one integer, as far as that can be known."""
        if self.name == other.name or (self.is_literal() and other.is_literal()):
            return True
        if self.contents is None or other.contents is None:
            return False
        ours, theirs = np.unique(self.contents), np.unique(other.contents)
        return ours.size == 1 and np.array_equal(ours, theirs)


def followed_back(
    nodes: Iterable[ir.Node], encodings: Mapping[tuple[str, int], Encoding]
) -> dict[str, Encoding]:
    """Encodings by the value that is read, and by the stored values that it is a rearrangement of.

    encodings: (node name, input position) -> encoding.
    """
    found: dict[str, Encoding] = {}
    for node in nodes:
        for position, read in enumerate(node.inputs):
            encoding = encodings.get((node.name or "", position))
            value = read
            while value is not None and encoding is not None:
                found.setdefault(value.name or "", encoding)
                producer = value.producer()
                if producer is None or producer.domain or not _moves(producer):
                    break
                value, encoding = producer.inputs[0], _before(producer, encoding)
    return found


def _before(move: ir.Node, encoding: Encoding) -> Encoding:
    """The encoding of what a move reads; a Transpose takes the axis along, others may lose it."""
    if move.op_type == "Transpose" and (perm := attribute(move, "perm")) and not encoding.bits:
        return replace(encoding, axis=perm[encoding.axis % len(perm)])
    return encoding if move.op_type in ("Identity", "Cast") else Encoding()


def _moves(node: ir.Node) -> bool:
    """Whether a node's output holds the integers of its input: a Cast to a wider type does."""
    if node.op_type != "Cast":
        return node.op_type in MOVES
    source = node.inputs[0]
    before = None if source is None else source.dtype
    after = node.outputs[0].dtype
    if before is None or after is None or not (before.is_integer() and after.is_integer()):
        return False
    return after.itemsize >= before.itemsize

"""How an operator multiplies its stored weight: rows of inputs times a matrix, per group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import onnx_ir as ir

from prunec.compiler.ops import op_key
from prunec.compiler.recovery import Array
from prunec.passes.recovery.convolution import conv, conv_transpose
from prunec.passes.recovery.moments import FloatArray
from prunec.passes.recovery.products import gemm, matmul

Places = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class Form(Protocol):
    """A node as ``y = x W + b`` per group. G groups, D columns, M outputs of a group.

    A place stands for one or more rows: the same position of every sample of a convolution.
    """

    @property
    def data(self) -> int:
        """Which input of the node is not the weight."""
        ...

    @property
    def weight(self) -> int:
        """Which input is."""
        ...

    @property
    def bias(self) -> int | None:
        """Which input is added, whether or not the node has it; None where the op adds none."""
        ...

    @property
    def bias_scale(self) -> float:
        """What the bias is multiplied with."""
        ...

    @property
    def source_axis(self) -> int:
        """The axis of the input that is summed over; may count from the end."""
        ...

    @property
    def target_axis(self) -> int:
        """The axis of the output that the weight makes."""
        ...

    def places(self, y: tuple[int, ...]) -> tuple[int, int]:
        """How many places an output of this shape has, and how many rows each stands for."""
        ...

    def agrees(self, x: tuple[int, ...], y: tuple[int, ...]) -> bool:
        """Whether an input of shape x makes an output of shape y."""
        ...

    def rows(self, x: Array, y: tuple[int, ...], places: Places) -> FloatArray:
        """(G, R, D) the columns that make the output at these places. y: shape of the output."""
        ...

    def outputs(self, y: Array, places: Places) -> FloatArray:
        """(G, R, M) the output there."""
        ...

    def matrix(self, weight: Array) -> FloatArray:
        """(G, D, M) float64 of a stored weight."""
        ...

    def stored(self, matrix: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """The inverse of `matrix`: a weight of that shape."""
        ...

    def sources(self, channels: int, columns: int) -> Places:
        """(G, D) the channel of the input that each column comes from."""
        ...


Builder = Callable[[ir.Node, int, tuple[int, ...]], Form | None]

# Operator -> (node, input position of the weight, its shape) -> Form; None where it has none.
FORMS: Mapping[str, Builder] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
}


def form_of(node: ir.Node, position: int, shape: tuple[int, ...]) -> Form | None:
    """How `node` multiplies the stored weight at this input; None where no row of FORMS says."""
    builder = FORMS.get(op_key(node))
    return None if builder is None else builder(node, position, shape)

"""Which operators work on integers, and where their weights are; one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.literals import literal


class Kind(Enum):
    """What an operator does to the integers that its inputs are.

    MULTIPLIES: sums of products with a stored weight. FOLLOWS: a result of its own range, in
    integers where its inputs are. MOVES: the result's elements are those of its input.
    """

    MULTIPLIES = "multiplies"
    FOLLOWS = "follows"
    MOVES = "moves"


def _always(_: ir.Node) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Row:
    """data: input positions of activations; None: all of them. weight, bias: positions, or None.

    axis: of the stored weight, which one has the outputs; None: the whole tensor has one grid.
    refuses: why a node of this kind stays float, or "". output: whether its result must be integers
    too for onnxruntime to compute in integers.
    """

    kind: Kind
    data: tuple[int, ...] | None = (0,)
    weight: int | None = None
    bias: int | None = None
    axis: Callable[[ir.Node, int], int | None] = lambda node, rank: None
    refuses: Callable[[ir.Node], str] = _always
    output: bool = True


def _gemm_axis(node: ir.Node, _: int) -> int:
    return 0 if attribute(node, "transB", 0) else 1


def _matmul_axis(_: ir.Node, rank: int) -> int | None:
    return 1 if rank == 2 else None


def _gemm(node: ir.Node) -> str:
    plain = all(attribute(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))
    plain &= not attribute(node, "transA", 0)
    return "" if plain else "its alpha, beta or transA has no integer kernel"


def _pad(node: ir.Node) -> str:
    if attribute(node, "mode", b"constant") not in (b"constant", "constant"):
        return ""
    filled = literal(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1)
    zero = filled is not None and not np.any(filled)
    return "" if zero else "it pads with another number than 0"


def _resize(node: ir.Node) -> str:
    cubic = attribute(node, "mode", "nearest") in (b"cubic", "cubic")
    return "cubic interpolation overshoots the range" if cubic else ""


def _mask_output(node: ir.Node) -> str:
    used = len(node.outputs) > 1 and bool(node.outputs[1].name) and bool(node.outputs[1].uses())
    return "its second output is read" if used else ""


MOVE = Row(Kind.MOVES)
FOLLOW = Row(Kind.FOLLOWS)
EVERY = Row(Kind.FOLLOWS, data=None)
ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "Add": Row(Kind.FOLLOWS, (0, 1)),
        "AveragePool": FOLLOW,
        "Clip": FOLLOW,
        "Concat": EVERY,
        "Conv": Row(Kind.MULTIPLIES, (0,), 1, 2, lambda node, rank: 0),
        # Its weight is (C, M / g, *K): with groups an index of axis 1 serves one channel of each.
        # onnxruntime has no kernel of it, so that its bias stays float.
        "ConvTranspose": Row(Kind.MULTIPLIES, (0,), 1, None, lambda node, rank: 1, output=False),
        "DepthToSpace": MOVE,
        "Dropout": Row(Kind.MOVES, refuses=_mask_output),
        "Expand": MOVE,
        "Flatten": MOVE,
        "Gather": MOVE,
        "Gemm": Row(Kind.MULTIPLIES, (0,), 1, 2, _gemm_axis, _gemm, output=False),
        "GlobalAveragePool": FOLLOW,
        "GlobalMaxPool": MOVE,
        "Identity": MOVE,
        "LeakyRelu": FOLLOW,
        "MatMul": Row(Kind.MULTIPLIES, (0,), 1, None, _matmul_axis, output=False),
        "MaxPool": Row(Kind.MOVES, refuses=_mask_output),
        "Mul": Row(Kind.FOLLOWS, (0, 1)),
        "Pad": Row(Kind.MOVES, refuses=_pad),
        "Relu": FOLLOW,
        "Reshape": MOVE,
        "Resize": Row(Kind.MOVES, refuses=_resize),
        "Sigmoid": FOLLOW,
        "Slice": MOVE,
        "SpaceToDepth": MOVE,
        "Split": MOVE,
        "Squeeze": MOVE,
        "Tile": MOVE,
        "Transpose": MOVE,
        "Unsqueeze": MOVE,
    }
)
# Layers with weights that stay float: onnxruntime has no integer kernel that Q and DQ lead to.
RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
# What the integers of the operator before can do by saturating: onnxruntime removes it there.
CLAMPS = frozenset({"Clip", "Relu"})

"""Stored tensors as nodes read them: directly, or through Transpose, Cast and Identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.ops import op_key
from prunec.compiler.recovery import Array


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored tensor and the transposition through which it is read; () for none.

    name: of the initializer or of what its Constant node gives. shape: as it is read.
    """

    name: str
    shape: tuple[int, ...]
    turn: tuple[int, ...] = ()

    def read(self, contents: Array) -> Array:
        """What the node sees of the contents."""
        return np.transpose(contents, self.turn) if self.turn else contents

    def write(self, seen: Array) -> Array:
        """The inverse."""
        return np.transpose(seen, np.argsort(self.turn)) if self.turn else seen


def stored(value: ir.Value | None) -> Stored | None:
    """The stored float tensor that a value is, or None. Inputs that can be fed are not stored."""
    turns: list[Sequence[int]] = []
    while value is not None:
        node = value.producer()
        if node is None or op_key(node) == "Constant":
            break
        if op_key(node) == "Transpose":
            rank = None if value.shape is None else len(value.shape)
            order = attribute(node, "perm")
            if order is None and rank is None:
                return None
            turns.append(tuple(range(rank or 0))[::-1] if order is None else order)
        elif op_key(node) not in ("Identity", "Cast"):
            return None
        value = node.inputs[0]
    tensor = None if value is None or value.is_graph_input() else tensor_of(value)
    if value is None or tensor is None or not tensor.dtype.is_floating_point():
        return None
    shape = tuple(int(n) for n in tensor.shape.numpy())
    turn = tuple(range(len(shape)))
    for order in reversed(turns):
        turn = tuple(turn[k] for k in order)
    plain = turn == tuple(range(len(shape)))
    return Stored(str(value.name), tuple(shape[k] for k in turn), () if plain else turn)


def tensor_of(value: ir.Value) -> ir.TensorProtocol | None:
    """What is stored under a value: an initializer's tensor or a Constant node's."""
    node = value.producer()
    if node is None:
        return value.const_value
    held = node.attributes.get("value") if op_key(node) == "Constant" else None
    return None if held is None or held.is_ref() else held.as_tensor()


def store(value: ir.Value, contents: Array) -> None:
    """Replace what is stored under a value; shape and element type stay."""
    old = tensor_of(value)
    assert old is not None, value.name
    assert tuple(contents.shape) == tuple(old.shape.numpy()), (value.name, contents.shape)
    array = np.ascontiguousarray(contents).astype(old.dtype.numpy())
    new = ir.Tensor(array, dtype=old.dtype, name=old.name)
    node = value.producer()
    if node is None:
        value.const_value = new
        return
    node.attributes["value"] = ir.AttrTensor("value", new)
    if value.const_value is not None:
        value.const_value = new

"""Stored tensors that change whenever they are read: nothing is kept in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.passes.recovery.storage import tensor_of

Array = NDArray[Any]
Change = Callable[[Array], Array]


def alter(value: ir.Value, change: Change, shape: tuple[int, ...] | None = None) -> None:
    """Let an initializer, or what a Constant node gives, hold `change` of its contents.

    shape: of the result, where it is another one.
    """
    node, old = value.producer(), tensor_of(value)
    if old is None:
        old = _listed(value)
    new = altered(old, change, shape)
    if node is None or value.const_value is not None:
        value.const_value = new
    if node is not None:
        node.attributes.clear()
        node.attributes["value"] = ir.AttrTensor("value", new)
    if shape is not None:
        value.shape = ir.Shape(shape)


def _listed(value: ir.Value) -> ir.TensorProtocol:
    """The numbers that a Constant node holds as a list."""
    node = value.producer()
    assert node is not None, value.name
    ((name, attribute),) = node.attributes.items()
    kind = np.float32 if name == "value_floats" else np.int64
    return ir.Tensor(np.array(attribute.value, kind))


def altered(
    old: ir.TensorProtocol, change: Change, shape: tuple[int, ...] | None = None
) -> ir.LazyTensor:
    """A tensor that is changed whenever it is read."""

    def read() -> ir.Tensor[Any]:
        array = change(old.numpy())
        if isinstance(old, ir.ExternalTensor):
            old.release()
        return ir.Tensor(np.ascontiguousarray(array), dtype=old.dtype, name=old.name)

    sizes = tuple(old.shape.numpy()) if shape is None else shape
    return ir.LazyTensor(read, dtype=old.dtype, shape=ir.Shape(sizes), name=old.name)

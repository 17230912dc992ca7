"""The dense form of a grouped model: zeros where an output does not read an input."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.errors import PlanError
from prunec.compiler.partition import Partition
from prunec.passes.recovery.storage import tensor_of
from prunec.passes.regroup.contents import alter
from prunec.passes.regroup.sites import stored_values


def masked(model: ir.Model, partitions: Mapping[str, Partition]) -> ir.Model:
    """A clone whose weights are zero off the blocks of their partitions.

    partitions: weight (F, C, *K) -> blocks, over the axes of this model. Weights are zeroed when
    they are read. Raises PlanError where a partition fits no stored weight.
    """
    copy = model.clone()
    stored = stored_values(copy)
    for name, partition in partitions.items():
        value = stored.get(name)
        tensor = None if value is None else tensor_of(value)
        shape = None if tensor is None else tuple(tensor.shape.numpy())
        require_fit(name, partition, shape)
        assert value is not None
        alter(value, partial(zeroed, partition=partition))
    return copy


def zeroed(weight: NDArray[Any], partition: Partition) -> NDArray[Any]:
    """A copy of a weight (F, C, *K) with zeros off the blocks, -0.0 and infinities included."""
    out = weight.copy()
    out[~partition.mask()] = 0
    return out


def require_fit(name: str, partition: Partition, shape: tuple[int, ...] | None) -> None:
    """Raise PlanError unless a stored weight has the axes of a partition."""
    sizes = (len(partition.outputs), len(partition.inputs))
    if shape is None or shape[:2] != sizes:
        found = "there is none" if shape is None else f"it is {shape[0]} x {shape[1]}"
        raise PlanError(
            f"$.groups[{name!r}]: is for a stored weight of {sizes[0]} x {sizes[1]} channels, but "
            f"{found} in the model"
        )

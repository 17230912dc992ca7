"""What a row of the operator table is, and what its function is told about a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")
Array = NDArray[Any]
# run(call, *inputs) -> a tensor, or one per output; absent optional inputs are None.
Function = Callable[..., Any]
NO_INPUTS: frozenset[int] = frozenset()
ALL_INPUTS = frozenset(range(4096))  # of operators that take any number


def _no_facts(_: ir.Node) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Row:
    """One operator.

    run: the function. host: positions of inputs that it takes as numpy arrays (shapes, axes,
    amounts), so that no device is asked for them. either: positions that it takes as they come,
    numpy or torch. weights: positions at which stored floats are trained. operands: the same, for
    tensors of more than one element: a stored number in arithmetic is a literal, not a weight.
    amounts: positions at which floats are never trained (scales, bounds).
    modal: run takes `training`, what `train()` and `eval()` have set. facts: what else of a node
    the call is told, as attributes.
    """

    run: Function
    host: frozenset[int] = NO_INPUTS
    either: frozenset[int] = NO_INPUTS
    weights: frozenset[int] = NO_INPUTS
    operands: frozenset[int] = NO_INPUTS
    amounts: frozenset[int] = NO_INPUTS
    modal: bool = False
    facts: Callable[[ir.Node], Mapping[str, Any]] = _no_facts


@dataclass(frozen=True, slots=True)
class Call:
    """A node, apart from its inputs. version: of the operator set. outputs: how many it has."""

    op: str
    name: str
    version: int
    outputs: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @overload
    def get(self, name: str) -> Any: ...

    @overload
    def get(self, name: str, default: T) -> T: ...

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute as a plain Python value, a numpy array for tensors."""
        return self.attributes.get(name, default)


def ints(array: Array | None) -> tuple[int, ...]:
    """The numbers of a small integer array; none where it is absent."""
    return () if array is None else tuple(int(n) for n in np.reshape(array, -1))


def number(array: Array | None, default: float = 0.0) -> Any:
    """The first element of an array as a Python number, `default` where it is absent."""
    return default if array is None or not array.size else np.reshape(array, -1)[0].item()


def axes_of(call: Call, given: Array | None) -> tuple[int, ...]:
    """The `axes` of an operator that has them as attribute in old sets and as input in new ones."""
    axes = call.get("axes")
    return ints(given) if axes is None else tuple(axes)


def aligned(vector: Tensor, rank: int, axis: int) -> Tensor:
    """A vector (n,) as a tensor of `rank` axes that broadcasts along `axis`."""
    return vector.reshape([-1 if k == axis % rank else 1 for k in range(rank)])

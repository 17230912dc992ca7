"""What a model's inputs look like, and random feeds for them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.errors import ModelError, UsageError
from prunec.compiler.facts import Facts
from prunec.compiler.spec import suggest
from prunec.frontends.bindings import UNBOUND_BATCH, UNBOUND_OTHER, UNBOUND_SPATIAL

Array = NDArray[Any]
Feeds = dict[str, Array]
NO_SHAPES: Mapping[str, tuple[int, ...]] = {}


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One graph input. shape: a number, a symbol or None (unknown) per axis; None: unknown rank."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None

    def describe(self) -> str:
        """Shape and element type in words, for messages: ``float32 (batch, 3, 32, 32)``."""
        if self.shape is None:
            return f"{self.dtype} of any shape"
        dims = ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.dtype} ({dims}{',' if len(self.shape) == 1 else ''})"

    def fits(self, shape: Sequence[int], *, skip: int = 0) -> bool:
        """Whether `shape` agrees with the known dimensions from axis `skip` on."""
        if self.shape is None:
            return True
        if len(shape) != len(self.shape):
            return False
        pairs = zip(self.shape[skip:], shape[skip:], strict=True)
        return all(want == have for want, have in pairs if isinstance(want, int))


def model_inputs(model: ir.Model) -> tuple[InputSpec, ...]:
    """Inputs that must be fed, in graph order (initializers listed as inputs are not)."""
    specs = []
    for value in model.graph.inputs:
        name = value.name or ""
        if name in model.graph.initializers:
            continue
        if value.dtype is None:
            raise ModelError(f"input {name!r} has no tensor element type; it cannot be fed")
        shape = None if value.shape is None else tuple(map(_dim, value.shape))
        specs.append(InputSpec(name, np.dtype(value.dtype.numpy()), shape))
    return tuple(specs)


def bound_inputs(model: ir.Model, facts: Facts) -> tuple[InputSpec, ...]:
    """The same with every dimension that `facts` binds replaced by its number."""
    return tuple(
        InputSpec(spec.name, spec.dtype, facts.shapes.get(spec.name, spec.shape))
        for spec in model_inputs(model)
    )


def _dim(dim: int | ir.SymbolicDim) -> int | str | None:
    return dim if isinstance(dim, int) else dim.value


def bind_inputs(
    inputs: Sequence[InputSpec],
    batch: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] = NO_SHAPES,
) -> dict[str, tuple[int, ...]]:
    """The shape to feed to each input; one number per symbol over all of them.

    `shapes` comes first, then `batch` for symbols on axis 0, then the numbers that shape inference
    uses (`prunec.frontends.shapes`). Raises UsageError where `shapes` contradicts the model.
    """
    unknown = set(shapes) - {spec.name for spec in inputs}
    if unknown:
        raise UsageError(f"--shape {min(unknown)}{suggest(min(unknown), (x.name for x in inputs))}")
    symbols: dict[str, int] = {}
    for spec in inputs:
        given = shapes.get(spec.name)
        if given is not None and not spec.fits(given):
            raise UsageError(f"--shape {spec.name}: {given} does not fit {spec.describe()}")
        for dim, number in zip(spec.shape or (), given or (), strict=False):
            if isinstance(dim, str) and symbols.setdefault(dim, number) != number:
                raise UsageError(f"--shape {spec.name}: {dim!r} is already {symbols[dim]}")
    bound = {}
    for spec in inputs:
        if spec.name not in shapes and spec.shape is None:
            raise UsageError(
                f"input {spec.name!r} has no shape; give --shape {spec.name}:1,3,64,64"
            )
        rank = len(spec.shape or ())
        bound[spec.name] = shapes.get(spec.name) or tuple(
            _bind(dim, axis, rank, batch, symbols) for axis, dim in enumerate(spec.shape or ())
        )
    return bound


def _bind(
    dim: int | str | None, axis: int, rank: int, batch: int | None, symbols: dict[str, int]
) -> int:
    if isinstance(dim, int):
        return dim
    number = UNBOUND_SPATIAL if rank in (4, 5) and axis >= 2 else UNBOUND_OTHER
    if axis == 0:
        number = UNBOUND_BATCH if batch is None else batch
    return number if dim is None else symbols.setdefault(dim, number)


def random_feeds(
    inputs: Sequence[InputSpec],
    seed: int = 0,
    *,
    batch: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] = NO_SHAPES,
    limit: int = 2,
) -> Feeds:
    """Random contents for all inputs; the same name, shape and seed give the same array.

    Floats are standard normal, booleans fair, 8-bit integers cover their range (quantised data),
    wider integers lie in [0, limit): the default 2 is legal for tokens, masks and segment ids.
    """
    bound = bind_inputs(inputs, batch, shapes)
    return {spec.name: _random(spec, bound[spec.name], seed, limit) for spec in inputs}


def _random(spec: InputSpec, shape: tuple[int, ...], seed: int, limit: int) -> Array:
    # Seeded per name: adding an input, or asking for another order, changes no other array.
    rng = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    kind, dtype = spec.dtype.kind, spec.dtype
    if kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if kind in "iu":
        low, high = (0, limit)
        if dtype.itemsize == 1:
            low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max) + 1
        return np.asarray(rng.integers(low, high, size=shape, dtype=dtype))
    if kind == "f" or dtype.name == "bfloat16":
        return np.asarray(rng.standard_normal(shape, dtype=np.float32)).astype(dtype)
    raise ModelError(f"input {spec.name!r} is {dtype}: random contents cannot be made; give --data")

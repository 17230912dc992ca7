"""Numbers for symbolic dimensions: from `--shape` options, or from the defaults below."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx_ir as ir

from prunec.compiler.errors import UsageError
from prunec.frontends.told import told

# What a symbolic dimension becomes when nobody says (the cost figures depend on it).
UNBOUND_BATCH = 1  # axis 0
UNBOUND_SPATIAL = 64  # axes 2 and up of image-like inputs: rank 4 or 5
UNBOUND_OTHER = 16  # sequence lengths, rows, features
# What is tried next where those contradict the model: a flattened image fits one size only, and a
# position table ends somewhere.
OTHER_SPATIAL = (224, 256, 32, 128, 384, 512, 299, 320, 640, 96, 28)
# The last number fits anything that only broadcasts.
OTHER_NUMBERS = (8, 4, 2, 32, 64, 77, 100, 128, 256, 512, 1024, 16000, 1)
# What a dimension becomes that depends on the data: elements that are not zero, boxes that are
# selected. One number for all, because two counts of the same thing must be equal; it has many
# divisors, because such an axis may be split.
DATA_DEPENDENT = 96
ANOTHER_DATA_DEPENDENT = 2  # shape arithmetic that differs with this number depends on the data

Shape = tuple[int, ...]


def parse_shapes(texts: Iterable[str]) -> dict[str, Shape]:
    """Read `--shape` options: `name:1,3,224,224` (or with x), several times.

    >>> parse_shapes(["image:1,3,224,224"])
    {'image': (1, 3, 224, 224)}
    """
    shapes: dict[str, Shape] = {}
    for text in texts:
        # Names may contain colons; dimensions may not.
        name, colon, dims = text.rpartition(":")
        parts = re.split(r"[,x]", dims)
        if not colon or not name or not all(re.fullmatch(r"\s*\d{1,12}\s*", p) for p in parts):
            raise UsageError(f"--shape {text!r}: write NAME:1,3,224,224")
        shape = tuple(int(part) for part in parts)
        if 0 in shape:
            raise UsageError(f"--shape {text!r}: a dimension must be at least 1")
        if shapes.setdefault(name, shape) != shape:
            raise UsageError(f"--shape {text!r}: {name!r} is given twice, with different shapes")
    return shapes


def possible_bindings(
    model: ir.Model, bindings: Mapping[str, Sequence[int]]
) -> Iterator[dict[str, int]]:
    """What `bind` gives with the default numbers, then with others, each result once."""
    tried: list[dict[str, int]] = []
    numbers = [(UNBOUND_SPATIAL, n) for n in OTHER_NUMBERS]
    sides = [(side, UNBOUND_OTHER) for side in OTHER_SPATIAL]
    for spatial, other in [(UNBOUND_SPATIAL, UNBOUND_OTHER), *sides, *numbers]:
        bound = bind(model, bindings, spatial, other)
        if bound not in tried:
            tried.append(bound)
            yield bound


def bind(
    model: ir.Model,
    bindings: Mapping[str, Sequence[int]],
    spatial: int = UNBOUND_SPATIAL,
    other: int = UNBOUND_OTHER,
) -> dict[str, int]:
    """Bind every symbolic dimension of the graph inputs; returns symbol -> number.

    spatial, other: for axes of images, and for the rest after the batch. Raises UsageError for a
    binding of an unknown input, of another rank, or against a fixed size.
    """
    inputs = {str(v.name): v for v in model.graph.inputs if v.name not in model.graph.initializers}
    for name in bindings:
        if name not in inputs:
            near = difflib.get_close_matches(name, inputs, n=1, cutoff=0.0)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"--shape: the model has no input named {name!r}{hint}")
    bound: dict[str, int] = {}
    for name, given in bindings.items():
        _bind_input(name, inputs[name], tuple(int(dim) for dim in given), bound)
    for name, value in inputs.items():
        _bind_rest(name, value, bound, spatial, other)
    return bound


def _bind_rest(name: str, value: ir.Value, bound: dict[str, int], spatial: int, other: int) -> None:
    """Bind what nobody gave: to what the first weights say, else to these numbers."""
    unknown = value.shape is None and symbol_of(name, 0, None) not in bound
    if not unknown and all(isinstance(dim, int) for dim in value.shape or ()):
        return
    known = told(value)
    rank = value.shape.rank() if value.shape is not None else known.rank if known else 0
    is_image = rank in (4, 5)
    sizes = known.sizes if known is not None and known.rank == rank else {}
    for axis, dim in enumerate(value.shape if value.shape is not None else [None] * rank):
        if not isinstance(dim, int) and (unknown or dim is not None):
            number = UNBOUND_BATCH if axis == 0 else spatial if is_image and axis > 1 else other
            number = sizes.get(axis, number)
            bound.setdefault(symbol_of(name, axis, dim), number)


def _bind_input(name: str, value: ir.Value, given: Shape, bound: dict[str, int]) -> None:
    written = f"--shape {name}:{','.join(map(str, given))}"
    if any(dim < 1 for dim in given):
        raise UsageError(f"{written}: a dimension must be at least 1")
    if value.shape is None:
        bound.update({symbol_of(name, axis, None): number for axis, number in enumerate(given)})
        return
    if value.shape.rank() != len(given):
        raise UsageError(
            f"{written}: the input has rank {value.shape.rank()} ({value.shape}), not {len(given)}"
        )
    for axis, (dim, number) in enumerate(zip(value.shape.dims, given, strict=True)):
        if isinstance(dim, int):
            if dim != number:
                raise UsageError(f"{written}: axis {axis} is fixed at {dim} in the model")
        elif bound.setdefault(symbol_of(name, axis, dim), number) != number:
            raise UsageError(
                f"{written}: symbol {dim.value!r} is already {bound[symbol_of(name, axis, dim)]}"
            )


def symbol_of(name: str, axis: int, dim: ir.SymbolicDim | None) -> str:
    """What a dimension is called in `Facts.bound`; without a symbol of its own, `value:axis`."""
    return dim.value if dim is not None and dim.value else f"{name}:{axis}"


def assume(
    node: ir.Node, dims: Sequence[int], source: Shape | None, count: int = DATA_DEPENDENT
) -> Shape | None:
    """A complete shape for an output of `node`, whose unknown dimensions are negative in `dims`.

    source: shape of the node's first input, if known. count: the number for a dimension that
    depends on the data; an operator that picks from an axis makes no more than that axis has.
    None where the numbers must fit together and nothing says how (a Reshape by data).
    """
    out = list(dims)
    unknown = [axis for axis, dim in enumerate(out) if dim < 0]
    op = node.op_type if not node.domain else ""
    if op == "Reshape":
        return _rest_of(out, unknown, source)
    if op in UNGUESSED or (op in STRETCHING and (source is None or len(source) != len(out))):
        return None
    for axis in unknown:
        behind = axis - len(out)
        own = source[behind] if source is not None and len(source) >= -behind else 1
        if op == "Expand" and own != 1:
            out[axis] = own  # an axis that is not 1 can't become anything else
        elif op in STRETCHING and source is not None:
            out[axis] = source[axis]
        elif op in PICKING and source is not None and len(source) == len(out):
            out[axis] = min(count, source[axis])
        else:
            out[axis] = count
    return tuple(out)


def _rest_of(dims: list[int], unknown: list[int], source: Shape | None) -> Shape | None:
    """What the one unknown dimension of a Reshape must be."""
    known = math.prod(dim for dim in dims if dim >= 0)
    if source is None or len(unknown) != 1 or not known or math.prod(source) % known:
        return None
    return tuple(math.prod(source) // known if dim < 0 else dim for dim in dims)


PICKING = frozenset({"Compress", "Slice", "TopK"})
UNGUESSED = frozenset({"Col2Im", "Shape"})  # a rank, and sizes that must fit together
STRETCHING = frozenset({"Pad", "Resize", "Tile", "Upsample"})  # by an unknown factor: taken as 1

"""How a size that the model computes shrinks: by a factor, or by a number."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

PASSING = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
PRODUCTS = frozenset({"Mul", "Div", "ReduceProd"})
_DEEPEST = 32  # exporters write fewer steps between a product and the shape that it is part of


def products(
    value: ir.Value, shapes: Mapping[str, tuple[int, ...]], depth: int = 0
) -> NDArray[np.bool_]:
    """Which elements, in flat order, are computed as products: ``batch * 12 * (height / 2)``.

    Cutting channels scales such a size whatever the symbols in it stand for, where any other
    size gets smaller by so many.
    """
    size = int(np.prod(shapes.get(value.name or "", ()), dtype=np.int64))
    node = value.producer()
    if node is None or depth == _DEEPEST:
        return np.zeros(size, bool)
    if node.op_type in PRODUCTS:
        return np.ones(size, bool)
    sources = [v for v in node.inputs if v is not None]
    if node.op_type == "Concat":
        parts = [products(v, shapes, depth + 1) for v in sources]
        known = sum(part.size for part in parts) == size and len(shapes[value.name or ""]) == 1
        return np.concatenate(parts) if known else np.zeros(size, bool)
    if node.op_type in PASSING and sources:
        found = products(sources[0], shapes, depth + 1)
        return found if found.size == size else np.zeros(size, bool)
    return np.zeros(size, bool)


def scaled(
    have: NDArray[np.int64], want: NDArray[np.int64], by_factor: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(up, down, change) with ``have * up // down + change == want``, element by element."""
    by_factor = by_factor & (have > 0) & (want > 0)
    common = np.gcd(have, want)
    up = np.where(by_factor, want // np.maximum(common, 1), 1)
    down = np.where(by_factor, have // np.maximum(common, 1), 1)
    return up, down, np.where(by_factor, 0, want - have)

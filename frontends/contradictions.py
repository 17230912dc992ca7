"""Nodes that can't run at the sizes that were assumed, though onnx's inference lets them pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from prunec.compiler.constants import attribute

Shape = tuple[int, ...]
Shapes = Sequence[Shape | None]


def contradicts(
    node: ir.Node, shapes: Mapping[str, Shape], constants: Mapping[str, NDArray[Any]]
) -> bool:
    """Whether the shapes or contents of a node's inputs do not fit together."""
    check = None if node.domain else CHECKS.get(node.op_type)
    if check is None or not node.outputs:
        return False
    names = [None if v is None else v.name for v in (*node.inputs, node.outputs[0])]
    known = [shapes.get(name) if name else None for name in names]
    return check(node, known, [constants.get(name) if name else None for name in names])


def _unequal_sum(node: ir.Node, shapes: Shapes, _: Sequence[Any]) -> bool:
    """A Gemm that sums over axes of different lengths."""
    a, b = shapes[:2]
    if a is None or b is None or len(a) != 2 or len(b) != 2:
        return False
    inner = a[0 if attribute(node, "transA", 0) else 1]
    return inner != b[1 if attribute(node, "transB", 0) else 0]


def _too_large_a_window(node: ir.Node, shapes: Shapes, _: Sequence[Any]) -> bool:
    """A window that is larger than what it slides over; onnx infers an output all the same."""
    x, w = shapes[0], shapes[1] if node.op_type == "Conv" else None
    kernel = attribute(node, "kernel_shape", () if w is None else w[2:])
    if x is None or len(x) != len(kernel) + 2 or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return False
    pads = attribute(node, "pads", (0,) * 2 * len(kernel))
    steps = attribute(node, "dilations", (1,) * len(kernel))
    padded = [n + a + b for n, a, b in zip(x[2:], pads, pads[len(kernel) :], strict=False)]
    return any(n < (k - 1) * d + 1 for n, k, d in zip(padded, kernel, steps, strict=False))


def _out_of_reach(node: ir.Node, shapes: Shapes, contents: Sequence[Any]) -> bool:
    """An index behind the end of a table."""
    x, picked = shapes[0], contents[1]
    if not x or picked is None or not picked.size or picked.dtype.kind not in "iu":
        return False
    size = x[attribute(node, "axis", 0)]
    return bool(picked.max() >= size or picked.min() < -size)


CHECKS: Mapping[str, Callable[[ir.Node, Shapes, Sequence[Any]], bool]] = {
    "AveragePool": _too_large_a_window,
    "Conv": _too_large_a_window,
    "Gather": _out_of_reach,
    "Gemm": _unequal_sum,
    "LpPool": _too_large_a_window,
    "MaxPool": _too_large_a_window,
}

"""A small builder of ONNX graphs whose float32 arithmetic is exact: small integers everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
WEIGHTS = np.array([-2, -1, 1, 2], np.float32)  # no zero: every channel matters
SPACE = (1, 2, 4)  # powers of two: means are exact


class Builder:
    """Nodes, weights and the shape of every value; values are their names."""

    def __init__(self, seed: int, opset: int, batch: int = 2) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset, self.batch = opset, batch
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.outputs: list[tuple[str, int]] = []
        self.inputs: list[str] = []
        self.told: dict[str, int] = {}  # element types of what onnx infers nothing about

    def chance(self, p: float = 0.5) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def input(self, *shape: int) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(name)
        self.shapes[name] = shape
        return name

    def store(self, array: Array, name: str = "") -> str:
        name = name or f"w{len(self.weights)}"
        self.weights[name] = array
        self.shapes[name] = array.shape
        return name

    def integers(self, *shape: int, choices: Array = WEIGHTS) -> str:
        return self.store(self.rng.choice(choices, shape).astype(np.float32))

    def ints(self, values: Sequence[int] | Array) -> str:
        return self.store(np.array(values, np.int64))

    def add(
        self, op: str, inputs: Sequence[str], shape: Sequence[int] | None = None, **attrs: Any
    ) -> str:
        """A node with one output; without `shape`, the shape of its first input."""
        return self.many(op, inputs, [self.shapes[inputs[0]] if shape is None else shape], **attrs)[
            0
        ]

    def many(
        self, op: str, inputs: Sequence[str], shapes: Sequence[Sequence[int]], **attrs: Any
    ) -> list[str]:
        number = len(self.nodes)
        names = [f"v{number}" if len(shapes) == 1 else f"v{number}_{k}" for k in range(len(shapes))]
        self.nodes.append(helper.make_node(op, inputs, names, f"{op}_{number}", **attrs))
        self.shapes.update({n: tuple(s) for n, s in zip(names, shapes, strict=True)})
        return names

    def contrib(
        self, op: str, inputs: Sequence[str], shape: Sequence[int], kind: int, **attrs: Any
    ) -> str:
        """A node of onnxruntime's own operators; kind: the element type of its output."""
        name = self.add(op, inputs, shape, domain="com.microsoft", **attrs)
        self.told[name] = kind
        return name

    # What changed between opsets.

    def axes(self, op: str, x: str, axes: Sequence[int], shape: Sequence[int], **kw: Any) -> str:
        """An op whose `axes` became an input, most in 18, a few in 13."""
        since = 13 if op in ("Squeeze", "Unsqueeze", "ReduceSum") else 18
        if self.opset >= since:
            return self.add(op, [x, self.ints(axes)], shape, **kw)
        return self.add(op, [x], shape, axes=list(axes), **kw)

    def split(self, x: str, axis: int, sizes: Sequence[int], explicit: bool = True) -> list[str]:
        shapes = []
        for size in sizes:
            shape = list(self.shapes[x])
            shape[axis] = size
            shapes.append(shape)
        if explicit and self.opset >= 13:
            return self.many("Split", [x, self.ints(sizes)], shapes, axis=axis)
        if explicit:
            return self.many("Split", [x], shapes, axis=axis, split=list(sizes))
        count = {"num_outputs": len(sizes)} if self.opset >= 18 else {}
        return self.many("Split", [x], shapes, axis=axis, **count)

    def reshape(self, x: str, target: Sequence[int], shape: Sequence[int] | None = None) -> str:
        return self.add("Reshape", [x, self.ints(target)], target if shape is None else shape)

    def transpose(self, x: str, *perm: int) -> str:
        return self.add("Transpose", [x], [self.shapes[x][k] for k in perm], perm=list(perm))

    # Layers.

    def conv(self, x: str, m: int = 0, k: int = 1, group: int = 1, bias: bool | None = None) -> str:
        _n, c, *space = self.shapes[x]
        m = m or int(self.pick((4, 8, 6)))
        w = self.integers(m, c // group, *[k] * len(space))
        return self.conv_with(x, w, group, bias)

    def conv_with(self, x: str, w: str, group: int = 1, bias: bool | None = None, **kw: Any) -> str:
        n, _, *space = self.shapes[x]
        m, _, *kernel = self.shapes[w]
        inputs = [x, w]
        if self.chance() if bias is None else bias:
            inputs.append(self.integers(m))
        elif self.chance(0.2):
            inputs.append("")  # an absent optional input, written out
        pads = [k // 2 for k in kernel] * 2
        return self.add("Conv", inputs, (n, m, *space), group=group, pads=pads, **kw)

    def tame(self, x: str) -> str:
        """Back to integers in -8..8, index by index."""
        low, high = self.store(np.array(-8, np.float32)), self.store(np.array(8, np.float32))
        return self.add("Clip", [self.add("Floor", [x]), low, high])

    def relu(self, x: str) -> str:
        return self.add("Relu", [x])

    def pooled(self, x: str) -> str:
        shape = self.shapes[x]
        return self.add("GlobalAveragePool", [x], (*shape[:2], *[1] * (len(shape) - 2)))

    def vector(self, x: str) -> str:
        """(1, C, 1, ...) or (C, 1, ...) weights that broadcast over `x`."""
        _, c, *space = self.shapes[x]
        lead = [1] if self.chance() else []
        return self.integers(*lead, c, *[1] * len(space))

    # The model.

    def output(self, x: str, kind: int = TensorProto.FLOAT) -> None:
        self.outputs.append((x, kind))

    def model(self) -> onnx.ModelProto:
        """A checked model with metadata, symbolic batch and value_info for everything."""

        def info(name: str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, kind, self.shapes[name])

        graph = helper.make_graph(
            self.nodes,
            "random",
            [info(name) for name in self.inputs],
            [info(name, kind) for name, kind in self.outputs],
            [numpy_helper.from_array(array, name) for name, array in self.weights.items()],
            doc_string="drawn",
            # onnx infers nothing through this function.
            value_info=[
                *(info(n.output[0]) for n in self.nodes if n.op_type == "GroupNormalization"),
                *(info(name, kind) for name, kind in self.told.items()),
            ],
        )
        model = helper.make_model(
            graph,
            opset_imports=[
                helper.make_opsetid("", self.opset),
                *([helper.make_opsetid("com.microsoft", 1)] if self.told else []),
            ],
            producer_name="tests",
            ir_version=10 if self.opset > 20 else 8,
        )
        helper.set_model_props(model, {"author": "tests"})
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        onnx.checker.check_model(inferred, full_check=True)
        return inferred


def _small(rng: np.random.Generator, kind: onnx.TypeProto.Tensor) -> Array:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    low, high = (-3, 4) if dtype.kind == "f" else (0, 2)  # integers are ids and masks
    return rng.integers(low, high, [d.dim_value for d in kind.shape.dim]).astype(dtype)


def feeds(model: onnx.ModelProto, seed: int) -> dict[str, Array]:
    """Small integers for every input."""
    rng = np.random.default_rng(seed)
    return {value.name: _small(rng, value.type.tensor_type) for value in model.graph.input}

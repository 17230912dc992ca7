"""One-node models: for every row of the torch view's table, the forms that operator sets have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prunec.runtime.torch_view.ops.elementwise import BINARY, UNARY

NEWEST = 21
MS = "com.microsoft"
FLOAT, UINT8, INT8 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8


@dataclass(frozen=True)
class Case:
    """A node. stored: positions of inputs that are initializers, all others are fed.

    random: only shape and type of the outputs can be compared. reference: onnx.reference says
    what is right, since this onnxruntime has no kernel for it (or computes something else).
    """

    op: str
    inputs: Sequence[np.ndarray | None]
    attrs: dict[str, Any] = field(default_factory=dict)
    opset: int = NEWEST
    outputs: int = 1
    stored: Sequence[int] = ()
    note: str = ""
    random: bool = False
    reference: bool = False

    @property
    def name(self) -> str:
        """Shown by pytest."""
        return "-".join(filter(None, [self.op, str(self.opset), self.note]))

    def model(self) -> onnx.ModelProto:
        """The one-node model; inputs x0, x1 ..., outputs y0, y1 ..."""
        domain, _, op = self.op.rpartition("::")
        names = [None if x is None else f"x{k}" for k, x in enumerate(self.inputs)]
        node = helper.make_node(
            op,
            [name or "" for name in names],
            [f"y{k}" for k in range(self.outputs)],
            name="the_node",
            domain=domain,
            **self.attrs,
        )
        given = list(zip(names, self.inputs, strict=True))
        fed = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for k, (n, x) in enumerate(given)
            if n is not None and x is not None and k not in self.stored
        ]
        kept = [
            numpy_helper.from_array(np.asarray(x), n)
            for k, (n, x) in enumerate(given)
            if k in self.stored
        ]
        out = [onnx.ValueInfoProto(name=f"y{k}") for k in range(self.outputs)]
        graph = helper.make_graph([node], "g", fed, out, kept)
        imports = [helper.make_opsetid("", self.opset)]
        if domain:
            imports.append(helper.make_opsetid(domain, 1))
        model = helper.make_model(graph, opset_imports=imports, ir_version=10)
        return model if domain or self.reference else onnx.shape_inference.infer_shapes(model)

    def feeds(self) -> dict[str, np.ndarray]:
        """What is fed."""
        return {
            f"x{k}": np.asarray(x)
            for k, x in enumerate(self.inputs)
            if x is not None and k not in self.stored
        }


def f(*shape: int, seed: int = 0, low: float | None = None, high: float = 1.0) -> np.ndarray:
    """Floats: standard normal, or uniform from `low` on."""
    rng = np.random.default_rng([seed, *shape])
    made = rng.standard_normal(shape) if low is None else rng.uniform(low, high, shape)
    return made.astype(np.float32)


def i(*values: Any, dtype: Any = np.int64) -> np.ndarray:
    """Integers."""
    return np.array(values, dtype)


def b(*shape: int, seed: int = 0) -> np.ndarray:
    """Booleans."""
    return np.random.default_rng(seed).random(shape) < 0.5


X4 = f(2, 6, 7, 9)
POSITIVE = frozenset(["Log", "Sqrt"])
WITHIN_ONE = frozenset(["Acos", "Asin", "Atanh"])


def elementwise() -> Iterator[Case]:
    for op in UNARY:
        if op == "Not":
            yield Case(op, [b(3, 4)])
        elif op == "BitwiseNot":
            yield Case(op, [i([1, 5, 7], dtype=np.int32)])
        elif op == "IsNaN":
            yield Case(op, [np.array([1, np.nan], np.float32)])
        elif op in POSITIVE:
            yield Case(op, [f(3, 4, low=0.1)])
        elif op in WITHIN_ONE:
            yield Case(op, [f(3, 4, low=-0.9)])
        elif op == "Acosh":
            yield Case(op, [f(3, 4, low=1.1, high=3)])
        elif op in ("Ceil", "Floor", "Round"):
            yield Case(op, [np.array([-2.5, -1.5, 0.5, 1.5, 2.2], np.float32)])
        else:
            yield Case(op, [f(3, 4)])
    for op in BINARY:
        if op == "Where":
            yield Case(op, [b(3, 1), f(3, 4), f(4, seed=1)])
        elif op in ("And", "Or", "Xor"):
            yield Case(op, [b(3, 1), b(3, 4, seed=1)])
        elif op.startswith("Bitwise"):
            yield Case(op, [i([6], [3], dtype=np.int32), i(5, 9, 12, dtype=np.int32)])
        else:
            yield Case(op, [f(3, 4).round(), f(4, seed=1).round()])
    for op in ("Add", "Sub", "Mul", "Div", "Pow"):
        yield Case(op, [f(3, 4, low=0.5), f(4, seed=1)])
    yield Case("Add", [f(3, 4), f(3, 1)], stored=[1], note="stored")
    yield Case("Add", [f(3, 4), f(3, 1)], opset=7)
    yield Case("Div", [i(-7, 7, 9), i(2, -2, 3)], note="integers")
    yield Case("Div", [i(-7, 7, 9), i(2, -2, 3)], stored=[0, 1], note="host")
    yield Case("Pow", [f(3, 4), i(2)], note="mixed", stored=[1])
    yield Case("Mod", [i(-7, 7, 9), i(3, -3, 4)])
    yield Case("Mod", [f(3, 4), f(4, low=0.5)], {"fmod": 1}, note="fmod")
    for op in ("Max", "Min", "Mean", "Sum"):
        yield Case(op, [f(3, 4), f(4, seed=1), f(3, 1, seed=2)])
    for way in ("LEFT", "RIGHT"):
        x, y = i(16, 4, 1, dtype=np.uint8), i(1, 2, 3, dtype=np.uint8)
        yield Case("BitShift", [x, y], {"direction": way}, note=way)
    infinite = np.array([1, np.inf, -np.inf, np.nan], np.float32)
    yield Case("IsInf", [infinite])
    yield Case("IsInf", [infinite], {"detect_negative": 0}, note="positive")


def activations() -> Iterator[Case]:
    x = 3 * f(3, 4, 5)
    for op in ("Celu", "Elu", "LeakyRelu", "Selu", "ThresholdedRelu", "HardSigmoid"):
        yield Case(op, [x])
        yield Case(op, [x], {"alpha": 0.3}, note="alpha")
    for op in ("HardSwish", "Mish", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh"):
        yield Case(op, [x])
    yield Case("Gelu", [x], opset=20)
    yield Case("Gelu", [x], {"approximate": "tanh"}, opset=20, note="tanh")
    yield Case("Swish", [x], {"alpha": 1.5}, opset=24, reference=True)
    yield Case("Shrink", [x], {"bias": 0.2, "lambd": 0.7})
    yield Case("Clip", [x], {"min": -0.5, "max": 1.0}, opset=6 + 1)
    yield Case("Clip", [x, np.float32(-0.5), np.float32(1.0)], stored=[1, 2], note="inputs")
    yield Case("Clip", [x, None, np.float32(1.0)], note="fed")
    yield Case("Clip", [i(-5, 3, 9), i(-2)[0], i(4)[0]], stored=[1, 2], note="integers")
    yield Case("PRelu", [x, f(4, 1)], stored=[1])
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        yield Case(op, [x])
        yield Case(op, [x], {"axis": 0}, note="axis")
        yield Case(op, [x], opset=11, note="flattened")
    yield Case("Dropout", [x], {"ratio": 0.3}, opset=7)
    yield Case("Dropout", [x, np.float32(0.3)], outputs=2, stored=[1], note="inputs")


def contractions() -> Iterator[Case]:
    w, bias = f(4, 6, 3, 3, seed=1), f(4, seed=2)
    yield Case("Conv", [X4, w, bias], stored=[1, 2])
    yield Case("Conv", [X4, w], {"pads": [0, 1, 2, 1], "strides": [2, 1]}, note="asymmetric")
    yield Case("Conv", [X4, f(4, 3, 3, 3)], {"group": 2, "dilations": [2, 1]}, note="groups")
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield Case("Conv", [X4, w], {"auto_pad": auto, "strides": [2, 2]}, note=auto)
    yield Case("Conv", [f(2, 3, 8), f(4, 3, 3)], {"pads": [1, 1]}, note="1d")
    yield Case("Conv", [f(2, 3, 4, 5, 4), f(4, 3, 2, 2, 2)], note="3d")
    t = f(6, 2, 3, 2, seed=1)
    yield Case("ConvTranspose", [X4, t, f(2)])
    shifted = {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 1]}
    yield Case("ConvTranspose", [X4, t, f(2)], shifted, note="asymmetric")
    yield Case(
        "ConvTranspose", [X4, t], {"strides": [2, 3], "output_shape": [15, 28]}, note="shape"
    )
    same = {"strides": [2, 2], "auto_pad": "SAME_UPPER"}
    yield Case("ConvTranspose", [X4, t], same, note="same")
    grouped = {"group": 3, "dilations": [2, 1], "pads": [1, 1, 1, 1]}
    yield Case("ConvTranspose", [X4, t], grouped, note="groups")
    yield Case("ConvTranspose", [f(2, 3, 5), f(3, 4, 3)], {"strides": [2]}, note="1d")
    a, c = f(3, 4), f(4, 5, seed=1)
    yield Case("Gemm", [a, c, f(5)])
    yield Case("Gemm", [a, c], {"alpha": 0.5}, opset=11)
    turned = {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}
    yield Case("Gemm", [f(4, 3), f(5, 4), f(3, 1)], turned, note="all")
    yield Case("Gemm", [a, f(5, 4), f(1)], {"transB": 1}, note="scalar")
    yield Case("MatMul", [f(2, 3, 4), f(4, 5)])
    yield Case("MatMul", [f(4), f(2, 4, 5)], note="vector")
    yield Case("Einsum", [f(2, 3, 4), f(2, 4, 5)], {"equation": "b i j, b j k -> b k i"})
    yield Case("Einsum", [f(2, 3, 3)], {"equation": "...ii->...i"}, note="diagonal")


def norms() -> Iterator[Case]:
    vectors = [f(6, seed=k) for k in range(2)] + [f(6, seed=2), f(6, low=0.5)]
    yield Case("BatchNormalization", [X4, *vectors], stored=[1, 2, 3, 4])
    yield Case("BatchNormalization", [f(5, 6), *vectors], {"epsilon": 1e-2}, opset=9)
    yield Case(
        "BatchNormalization", [X4, *vectors], {"training_mode": 1}, outputs=3, note="training"
    )
    yield Case("InstanceNormalization", [X4, *vectors[:2]])
    yield Case("GroupNormalization", [X4, f(3), f(3, seed=1)], {"num_groups": 3}, opset=18)
    yield Case("GroupNormalization", [X4, *vectors[:2]], {"num_groups": 3}, reference=True)
    yield Case("LayerNormalization", [X4, f(9), f(9, seed=1)])
    yield Case("LayerNormalization", [X4, f(7, 9)], {"axis": 2}, outputs=3, note="outputs")
    yield Case("RMSNormalization", [X4, f(9)], opset=23)
    yield Case("SimplifiedLayerNormalization", [X4, f(9)], opset=20)
    yield Case("LRN", [X4], {"size": 3, "alpha": 0.1, "bias": 2.0})
    for p in (1, 2):
        yield Case("LpNormalization", [f(3, 4)], {"p": p, "axis": 0}, note=str(p))
    yield Case("MeanVarianceNormalization", [X4])


def pools() -> Iterator[Case]:
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        yield Case(op, [X4])
    square = {"kernel_shape": [3, 3], "strides": [2, 2]}
    for op in ("AveragePool", "MaxPool", "LpPool"):
        yield Case(op, [X4], square)
        yield Case(op, [X4], {**square, "pads": [1, 1, 1, 1]}, note="pads")
        yield Case(op, [X4], {**square, "pads": [0, 1, 2, 1]}, note="asymmetric")
        yield Case(op, [X4], {**square, "auto_pad": "SAME_LOWER"}, note="same")
        yield Case(op, [f(2, 3, 8)], {"kernel_shape": [2]}, note="1d")
    for op in ("AveragePool", "MaxPool"):
        yield Case(op, [X4], {**square, "ceil_mode": 1}, note="ceil")
        pads = {**square, "ceil_mode": 1, "pads": [1, 0, 1, 0]}
        yield Case(op, [X4], pads, note="ceil_pads")
        yield Case(op, [X4], {"kernel_shape": [2, 2], "dilations": [2, 3]}, note="dilated")
        yield Case(op, [f(1, 2, 5, 6, 5)], {"kernel_shape": [2, 2, 2]}, note="3d")
    counted = {**square, "count_include_pad": 1}
    yield Case("AveragePool", [X4], {**counted, "pads": [1, 1, 1, 1]}, note="counted")
    uneven = {**counted, "pads": [0, 1, 1, 0], "ceil_mode": 1}
    yield Case("AveragePool", [X4], uneven, note="counted_ceil")
    yield Case("MaxPool", [X4], {**square, "pads": [1, 1, 1, 1]}, outputs=2, note="indices")
    uneven = {**square, "pads": [0, 1, 2, 1]}
    yield Case("MaxPool", [X4], uneven, outputs=2, note="uneven_indices")
    yield Case("MaxPool", [X4], {**square, "storage_order": 1}, outputs=2, note="columns")
    yield Case(
        "MaxPool", [i([[[1, 5, 3, 2]]], dtype=np.uint8)[0]], {"kernel_shape": [2]}, note="u8"
    )
    at = i([[[[0, 3], [9, 15]]]])[0].reshape(1, 1, 2, 2)
    unpool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    yield Case("MaxUnpool", [f(1, 1, 2, 2), at], unpool)
    yield Case("MaxUnpool", [f(1, 1, 2, 2), at, i(1, 1, 5, 5)], unpool, reference=True, note="to")


def reductions() -> Iterator[Case]:
    ops = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
    for op in ops:
        x = f(2, 3, 4, low=0.1)
        yield Case(f"Reduce{op}", [x], {"axes": [1, -1], "keepdims": 0}, opset=11)
        yield Case(f"Reduce{op}", [x, i(1)], stored=[1])
        yield Case(f"Reduce{op}", [x], note="all")
    yield Case("ReduceSum", [f(2, 3)], {"noop_with_empty_axes": 1}, note="none")
    yield Case("ReduceSum", [i([1, 2], [3, 4]), i(0)], note="integers")
    for op in ("ArgMax", "ArgMin"):
        ties = np.array([[1, 3, 3], [2, 0, 0]], np.float32)
        yield Case(op, [ties], {"axis": 1})
        yield Case(op, [ties], {"axis": -1, "select_last_index": 1, "keepdims": 0}, note="last")


def layouts() -> Iterator[Case]:
    x = f(2, 3, 4)
    yield Case("Identity", [x])
    yield Case("Reshape", [x, i(0, -1)], stored=[1])
    yield Case("Reshape", [f(2, 0), i(0, 5)], {"allowzero": 1}, note="zero")
    yield Case("Flatten", [x], {"axis": 2})
    yield Case("Flatten", [x], {"axis": -2}, note="negative")
    yield Case("Transpose", [x])
    yield Case("Transpose", [x], {"perm": [1, 2, 0]}, note="perm")
    thin = f(1, 3, 1)
    yield Case("Squeeze", [thin])
    yield Case("Squeeze", [thin], {"axes": [0]}, opset=11)
    yield Case("Squeeze", [thin, i(-1)], stored=[1], note="input")
    yield Case("Unsqueeze", [x], {"axes": [0, 3]}, opset=11)
    yield Case("Unsqueeze", [x, i(-1, 0)], stored=[1])
    yield Case("Expand", [f(3, 1), i(2, 1, 4)])
    yield Case("Tile", [x, i(1, 2, 3)])
    yield Case("Concat", [x, f(2, 1, 4)], {"axis": -2})
    yield Case("Split", [x], {"axis": 1, "split": [1, 2]}, opset=11, outputs=2)
    yield Case("Split", [x, i(1, 3)], {"axis": -1}, outputs=2, note="input")
    yield Case("Split", [x], {"axis": 1, "num_outputs": 2}, outputs=2, note="uneven")
    yield Case("Slice", [x], {"starts": [1], "ends": [100], "axes": [2]}, opset=9)
    yield Case("Slice", [x, i(-1, 0), i(-1000, 3), i(2, 1), i(-2, 2)], note="steps")
    backwards = [x, i(-1), i(-(2**63) + 1), i(1), i(-1)]
    yield Case("Slice", backwards, stored=[1, 2, 3, 4], note="reversed")
    yield Case("Slice", [x, i(3), i(1), i(2)], note="empty")
    for mode in ("constant", "reflect", "edge", "wrap"):
        yield Case("Pad", [x, i(0, 1, 2, 1, 0, 3)], {"mode": mode}, note=mode)
    yield Case("Pad", [x], {"pads": [0, 1, 0, 0, 0, 2], "value": 1.5}, opset=9)
    yield Case("Pad", [x, i(-1, 2), np.float32(2), i(2)], stored=[1, 2, 3], note="axes")
    for mode in ("DCR", "CRD"):
        yield Case("DepthToSpace", [f(2, 8, 3, 4)], {"blocksize": 2, "mode": mode}, note=mode)
    yield Case("SpaceToDepth", [f(2, 3, 4, 6)], {"blocksize": 2})
    yield Case("CenterCropPad", [f(4, 7, 3), i(5, 4)], {"axes": [0, 1]})
    block = {"pads": [1, 0, 1, 0], "strides": [2, 1]}
    yield Case("Col2Im", [f(2, 12, 12), i(4, 5), i(2, 2)], block)
    spans = {"time_axis": 1, "batch_axis": 0}
    yield Case("ReverseSequence", [f(3, 4, 2), i(1, 4, 2)], spans)
    yield Case("Trilu", [f(2, 4, 5)])
    yield Case("Trilu", [f(2, 4, 5), np.array(1)], {"upper": 0}, note="lower")


def indexing() -> Iterator[Case]:
    x = f(3, 4, 5)
    yield Case("Gather", [x, i([0, -1], [2, 1])], {"axis": 1})
    yield Case("Gather", [x, np.array(-1)], stored=[1], note="one")
    yield Case("Gather", [x, i(1, 0)], stored=[0, 1], note="host")
    yield Case("GatherElements", [x, i([[0, -1, 2, 1, 0]])[0][None]], {"axis": 1})
    yield Case("GatherND", [x, i([0, -1], [2, 1])])
    yield Case("GatherND", [x, i([[1]], [[2]], [[-1]])[:, :, :]], {"batch_dims": 1}, note="batch")
    at, new = i([[0, 2, 1]]), f(1, 3)
    yield Case("Scatter", [f(3, 3), at[0], new], {"axis": 0}, opset=9)
    yield Case("ScatterElements", [f(3, 3), at[0], new], {"axis": 1})
    for way in ("add", "mul", "max", "min"):
        told = {"axis": 0, "reduction": way}
        yield Case("ScatterElements", [f(3, 3), i([0, 2, -1]), f(1, 3)], told, note=way)
        rows = i([[0]], [[2]], [[0]])[:, 0]
        yield Case("ScatterND", [f(3, 4), rows, f(3, 4)], {"reduction": way}, note=way)
    yield Case("ScatterND", [x, i([0, -1], [2, 1]), f(2, 5)])
    cache, new = f(2, 3, 6, 4), f(2, 3, 2, 4)
    yield Case("TensorScatter", [cache, new, i(1, 3)], opset=24, reference=True)
    circular = {"mode": "circular"}
    yield Case("TensorScatter", [cache, new, i(5, 0)], circular, opset=24, reference=True, note="o")
    values = np.array([-1, 2], np.float32)
    yield Case("OneHot", [i(0, 7, -1), i(4), values], {"axis": 0}, stored=[1])
    yield Case("TopK", [x, i(3)], outputs=2, stored=[1])
    yield Case("TopK", [x], {"k": 2, "axis": 1}, opset=9, outputs=2)
    yield Case("TopK", [x, i(2)], {"largest": 0, "axis": 0}, outputs=2, note="smallest")
    yield Case("NonZero", [i([0, 1], [2, 0])])
    yield Case("Compress", [x, np.array([True, False, True])], {"axis": 1})
    yield Case("Compress", [f(2, 2), np.array([False, True, True])], note="flat")
    for flags in ({}, {"exclusive": 1}, {"reverse": 1, "exclusive": 1}):
        yield Case("CumSum", [x, i(1)], flags, note="_".join(flags))
    yield Case("CumProd", [x, np.array(1)], opset=26, reference=True)


def creations() -> Iterator[Case]:
    yield Case("Cast", [f(3, 4)], {"to": TensorProto.INT32})
    yield Case("Cast", [f(3, 4)], {"to": TensorProto.BOOL}, note="bool")
    yield Case("Cast", [f(3, 4)], {"to": TensorProto.FLOAT16}, note="half")
    yield Case("CastLike", [f(3), i(1)])
    yield Case("ConstantOfShape", [i(2, 3)])
    filled = helper.make_tensor("v", TensorProto.INT64, [1], [7])
    yield Case("ConstantOfShape", [i(300, 300)], {"value": filled}, note="large")
    yield Case("Range", [i(1)[0], i(9)[0], i(3)[0]])
    yield Case("Range", [np.float32(0), np.float32(2), np.float32(0.5)], stored=[0, 1, 2])
    yield Case("Shape", [f(2, 3, 4)])
    yield Case("Shape", [f(2, 3, 4)], {"start": 1, "end": -1}, note="part")
    yield Case("Size", [f(2, 3)])
    yield Case("EyeLike", [f(3, 4)], {"k": 1, "dtype": TensorProto.INT32})
    for op in ("HannWindow", "HammingWindow", "BlackmanWindow"):
        yield Case(op, [i(8)[0]])
        yield Case(op, [i(8)[0]], {"periodic": 0}, note="symmetric")
    for op in ("RandomNormalLike", "RandomUniformLike"):
        yield Case(op, [f(3, 4)], random=True)
    for op in ("RandomNormal", "RandomUniform"):
        yield Case(op, [], {"shape": [3, 4]}, random=True)
    yield Case("Bernoulli", [f(3, 4, low=0)], random=True)


def resizes() -> Iterator[Case]:
    x = f(1, 2, 5, 6)
    up, down, odd = (np.array([1, 1, *s], np.float32) for s in ((2, 3), (0.6, 0.5), (1.7, 0.7)))
    places = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    for mode in ("nearest", "linear", "cubic"):
        for place in [*places, "half_pixel_symmetric"]:
            told = {"mode": mode, "coordinate_transformation_mode": place}
            for k, scales in enumerate((up, down)):
                yield Case("Resize", [x, None, scales], told, note=f"{mode}_{place}_{k}")
    for nearest in ("round_prefer_ceil", "floor", "ceil"):
        yield Case("Resize", [x, None, odd], {"nearest_mode": nearest}, note=nearest)
    yield Case("Resize", [x, None, None, i(1, 2, 8, 4)], {"mode": "linear"}, note="sizes")
    kept = {"keep_aspect_ratio_policy": "not_larger", "axes": [2, 3], "mode": "linear"}
    yield Case("Resize", [x, None, None, i(9, 9)], kept, note="aspect")
    for mode in ("linear", "cubic"):
        smooth = {"mode": mode, "antialias": 1}
        yield Case("Resize", [x, None, down], smooth, note=f"antialias_{mode}", reference=True)
    inside = {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5}
    yield Case("Resize", [x, None, odd], inside, note="exclude")
    crop = {
        "mode": "linear",
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 9.0,
    }
    roi = np.array([0, 0, 0.4, -0.2, 1, 1, 1.3, 0.9], np.float32)
    yield Case("Resize", [x, roi, None, i(1, 2, 4, 4)], crop, note="crop")
    nn = {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}
    yield Case("Resize", [x, np.zeros(0, np.float32), odd], nn, opset=11)
    for mode in ("nearest", "linear"):
        yield Case("Resize", [x, up], {"mode": mode}, opset=10, note=mode)
        yield Case("Upsample", [x, up], {"mode": mode}, opset=9, note=mode)
    yield Case("Upsample", [x], {"scales": [1.0, 1.0, 2.0, 2.0]}, opset=7)


def samplings() -> Iterator[Case]:
    grid = f(2, 4, 5, 2, low=-1.2, high=1.2)
    for mode in ("bilinear", "nearest", "bicubic"):
        yield Case("GridSample", [X4, grid], {"mode": mode}, opset=16, note=mode)
    for padding in ("border", "reflection"):
        told = {"mode": "linear", "padding_mode": padding, "align_corners": 1}
        yield Case("GridSample", [X4, grid], told, opset=20, note=padding)
    yield Case("GridSample", [f(1, 2, 3, 4, 5), f(1, 2, 2, 2, 3, low=-1)], opset=20, note="3d")
    for corners in (0, 1):
        told = {"align_corners": corners}
        yield Case("AffineGrid", [f(2, 2, 3), i(2, 3, 4, 5)], told, opset=20, note=str(corners))
    boxes = np.array([[0, 0, 4, 5], [1.5, 0.5, 8, 6], [2, 2, 2.5, 2.2]], np.float32)
    size = {"output_height": 2, "output_width": 3}
    for mode in ("avg", "max"):
        told = {**size, "mode": mode, "sampling_ratio": 2}
        yield Case("RoiAlign", [X4, boxes, i(0, 1, 1)], told, note=mode)
    scaled = {**size, "spatial_scale": 0.5}
    yield Case("RoiAlign", [X4, boxes, i(0, 1, 1)], scaled, opset=10, stored=[1, 2])


def recurrences() -> Iterator[Case]:
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        outputs = 3 if op == "LSTM" else 2
        x, state = f(5, 3, 4), f(2, 3, 6, seed=9)
        for d, way in ((1, "forward"), (1, "reverse"), (2, "bidirectional")):
            w, r, bias = (
                f(d, gates * 6, n, seed=k) / 2 for k, n in ((1, 4), (2, 6), (3, 2 * gates * 6))
            )
            bias = f(d, 2 * gates * 6, seed=3)
            told: dict[str, Any] = {"hidden_size": 6, "direction": way}
            if op == "GRU":
                told["linear_before_reset"] = 1
            states = [state[:d]] * (outputs - 1)
            plain = [x, w, r, bias, None, *states]
            yield Case(op, plain, told, outputs=outputs, stored=[1, 2, 3], note=way)
            lengths = i(5, 2, 3, dtype=np.int32)
            long = [x, w, r, bias, lengths]
            yield Case(op, long, told, outputs=outputs, note=f"{way}_lengths")
    hidden = {"hidden_size": 6}
    w, r = f(1, 18, 4), f(1, 18, 6, seed=1)
    yield Case("GRU", [f(5, 3, 4), w, r], hidden, outputs=2, note="before")
    clipped = {**hidden, "clip": 0.4, "activations": ["HardSigmoid", "Softsign"]}
    yield Case("GRU", [f(5, 3, 4), w, r], clipped, outputs=2, note="clip")
    w, r, bias = f(1, 24, 4), f(1, 24, 6, seed=1), f(1, 48)
    peep = [f(5, 3, 4), w, r, bias, None, None, None, f(1, 18)]
    yield Case("LSTM", peep, hidden, outputs=3, note="peepholes")
    odd = {**hidden, "activations": ["Sigmoid", "LeakyRelu", "Affine"], "input_forget": 1}
    odd = {**odd, "activation_alpha": [0.2, 0.5], "activation_beta": [0.1]}
    yield Case("LSTM", [f(5, 3, 4), w, r], odd, outputs=3, note="functions")
    first = {**hidden, "layout": 1}
    yield Case("LSTM", [f(3, 5, 4), w, r], first, outputs=3, note="layout", reference=True)


def attentions() -> Iterator[Case]:
    q, k, v = f(2, 4, 3, 8), f(2, 2, 5, 8, seed=1), f(2, 2, 5, 6, seed=2)
    new = {"opset": 23}
    yield Case("Attention", [q, k, v], **new)
    flat = [x.transpose(0, 2, 1, 3).reshape(2, x.shape[2], -1) for x in (q, k, v)]
    heads = {"q_num_heads": 4, "kv_num_heads": 2, "scale": 0.3}
    yield Case("Attention", flat, heads, note="flat", **new)
    yield Case("Attention", [q, k, v, b(3, 5)], note="mask", **new)
    yield Case("Attention", [q, k, v, f(3, 5)], {"is_causal": 1}, note="causal", **new)
    past = [f(2, 2, 4, 8, seed=3), f(2, 2, 4, 6, seed=4)]
    yield Case(
        "Attention", [q, k, v, None, *past], {"is_causal": 1}, outputs=3, note="past", **new,
        reference=True,
    )  # fmt: skip
    for shown in (0, 1, 2, 3):
        told = {"softcap": 2.0, "qk_matmul_output_mode": shown, "softmax_precision": 1}
        yield Case(
            "Attention", [q, k, v, f(3, 5)], told, outputs=4, note=f"capped{shown}",
            reference=True, **new,
        )  # fmt: skip
    ends = [q, k, v, None, None, None, i(5, 3)]
    yield Case("Attention", ends, {"is_causal": 1}, opset=24, reference=True, note="valid")
    cos, sin = f(10, 4), f(10, 4, seed=1)
    at = i([0, 1, 2], [3, 4, 5])
    for turned in (0, 1):
        told = {"interleaved": turned}
        yield Case("RotaryEmbedding", [q, cos, sin, at], told, note=str(turned), **new)
    told = {"num_heads": 4, "rotary_embedding_dim": 4}
    part = [flat[0], f(2, 3, 2), f(2, 3, 2, seed=1)]
    yield Case("RotaryEmbedding", part, told, note="part", **new)


def quantisations() -> Iterator[Case]:
    x, scale, zero = 3 * f(2, 3, 4), np.float32(0.05), np.uint8(100)
    scales, zeros = np.array([0.03, 0.05, 0.1], np.float32), i(3, -2, 0, dtype=np.int8)
    yield Case("QuantizeLinear", [x, scale, zero], stored=[1, 2])
    yield Case("QuantizeLinear", [x, scale], opset=10)
    yield Case("QuantizeLinear", [x, scales, zeros], {"axis": 1}, stored=[1, 2], note="axis")
    ints = np.random.default_rng(0).integers(-128, 127, (2, 3, 4)).astype(np.int8)
    yield Case("DequantizeLinear", [ints, scale], opset=10)
    yield Case("DequantizeLinear", [ints, scales, zeros], {"axis": 1}, note="axis")
    blocks = {"axis": 1, "block_size": 2}
    yield Case("DequantizeLinear", [ints[0, :, :].copy(), f(3, 2, low=0.1)], blocks, note="blocks")
    small = np.arange(-8, 4).reshape(3, 4).astype(ml_dtypes.int4)
    yield Case("DequantizeLinear", [small, scale], stored=[0], note="int4")
    yield Case("DynamicQuantizeLinear", [x], outputs=3)
    a = np.random.default_rng(1).integers(0, 255, (3, 4)).astype(np.uint8)
    w = np.random.default_rng(2).integers(-128, 127, (4, 5)).astype(np.int8)
    yield Case("MatMulInteger", [a, w, np.uint8(7)])
    image = np.random.default_rng(1).integers(0, 255, (1, 2, 5, 5)).astype(np.uint8)
    kernel = np.random.default_rng(2).integers(0, 255, (3, 2, 3, 3)).astype(np.uint8)
    yield Case("ConvInteger", [image, kernel, np.uint8(7)], {"pads": [1, 1, 1, 1]})


def spectra() -> Iterator[Case]:
    signal = f(2, 8, 1)
    yield Case("DFT", [signal], {"axis": 1}, opset=17)
    yield Case("DFT", [signal], {"axis": 1, "onesided": 1}, opset=17, note="onesided")
    yield Case("DFT", [f(2, 8, 2), None, np.array(1)], {"inverse": 1}, opset=20, reference=True)
    yield Case("STFT", [f(2, 16, 1), i(4)[0], f(8, low=0)], note="window")
    yield Case("STFT", [f(2, 16, 1), i(4)[0], None, i(8)[0]], {"onesided": 0}, note="length")


def contributed() -> Iterator[Case]:
    x, vector = f(2, 3, 8), f(8, seed=1)
    yield Case(f"{MS}::Gelu", [x])
    yield Case(f"{MS}::BiasGelu", [x, vector])
    yield Case(f"{MS}::FastGelu", [x, vector])
    yield Case(f"{MS}::QuickGelu", [x], {"alpha": 1.5})
    for op in ("FusedMatMul", "TransposeMatMul"):
        yield Case(
            f"{MS}::{op}", [f(2, 4, 3), f(2, 5, 4)], {"transA": 1, "transB": 1, "alpha": 0.5}
        )
    told = {"activation": "Clip", "activation_params": [-0.5, 0.7], "pads": [1, 1, 1, 1]}
    kernel = f(6, 6, 3, 3)
    yield Case(f"{MS}::FusedConv", [X4, kernel, f(6), X4], told, stored=[1, 2])
    leaky = {"activation": "LeakyRelu", "activation_alpha": 0.3, "alpha": 0.5}
    yield Case(f"{MS}::FusedGemm", [f(3, 4), f(4, 5), f(5)], leaky)
    norm = [x, f(2, 3, 8, seed=3), vector]
    yield Case(f"{MS}::SkipLayerNormalization", [*norm, f(8), f(8)], {"epsilon": 1e-5})
    told = {"epsilon": 1e-5}
    yield Case(f"{MS}::SkipSimplifiedLayerNormalization", norm, told)
    w, bias = f(8, 24, seed=4) / 3, f(24)
    yield Case(f"{MS}::Attention", [x, w, bias], {"num_heads": 2})
    masked = [x, w, bias, i([1, 1, 0], [1, 0, 0], dtype=np.int32)]
    yield Case(f"{MS}::Attention", masked, {"num_heads": 2}, note="mask")
    yield Case(f"{MS}::Attention", [x, w, bias], {"num_heads": 2, "unidirectional": 1}, note="uni")
    keys = [x, f(2, 5, 8), f(2, 5, 8, seed=1)]
    yield Case(f"{MS}::MultiHeadAttention", [*keys, f(24)], {"num_heads": 2, "scale": 0.4})


CASES: tuple[Case, ...] = tuple(
    case
    for family in (
        activations,
        attentions,
        contractions,
        contributed,
        creations,
        elementwise,
        indexing,
        layouts,
        norms,
        pools,
        quantisations,
        recurrences,
        reductions,
        resizes,
        samplings,
        spectra,
    )
    for case in family()
)

"""Small models of attention and of fused operators, in all their forms; float weights.

Softmax is not exact in floats, so these are compared within a tolerance. Inputs are (B, T, C).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CONTRIB = "com.microsoft"
B, T, C = 2, 4, 24
WIDE, CLASSES = 16, 5
FILES = ("attention.py", "fused.py")  # whose rules these models are for
TOLERANCE = 1e-4  # of the largest output: two orders of summation in float32


class Net:
    """Nodes and weights; values are their names, shapes are left to inference."""

    def __init__(self, opset: int = 17) -> None:
        self.rng = np.random.default_rng(7)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, NDArray[Any]] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.told: list[onnx.ValueInfoProto] = []

    def input(self, *shape: int, kind: int = TensorProto.FLOAT) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def store(self, array: Any, dtype: Any = np.int64) -> str:
        name = f"w{len(self.stored)}"
        self.stored[name] = np.asarray(array, dtype)
        return name

    def weight(self, *shape: int) -> str:
        scale = (shape[0] if len(shape) > 1 else 4) ** -0.5
        return self.store(self.rng.standard_normal(shape) * scale, np.float32)

    def add(
        self, op: str, inputs: Sequence[str], outputs: int | Sequence[int] = 1, **attributes: Any
    ) -> str:
        """A node `domain::Op`; outputs: how many, or which of them are asked for. The first."""
        domain, _, op_type = op.rpartition("::")
        number = len(self.nodes)
        wanted = range(outputs) if isinstance(outputs, int) else outputs
        names = [f"v{number}_{k}" if k in wanted else "" for k in range(max(wanted) + 1)]
        node = helper.make_node(op_type, inputs, names, f"{op_type}_{number}", domain=domain)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in sorted(attributes.items()))
        self.nodes.append(node)
        return names[0]

    def also(self, value: str, position: int) -> str:
        """Another output of the node that makes `value`."""
        return f"{value.rpartition('_')[0]}_{position}"

    def linear(self, x: str, size: int, out: int, bias: bool = True) -> str:
        y = self.add("MatMul", [x, self.weight(size, out)])
        return self.add("Add", [y, self.weight(out)]) if bias else y

    def by_head(self, x: str, heads: int, dim: int) -> str:
        """(B, T, H*D) as (B, H, T, D)."""
        return self.transpose(self.reshape(x, 0, 0, heads, dim), 0, 2, 1, 3)

    def joined(self, x: str, width: int) -> str:
        """(B, H, T, D) as (B, T, H*D)."""
        return self.reshape(self.transpose(x, 0, 2, 1, 3), 0, 0, width)

    def reshape(self, x: str, *target: int) -> str:
        return self.add("Reshape", [x, self.store(target)])

    def transpose(self, x: str, *perm: int) -> str:
        return self.add("Transpose", [x], perm=list(perm))

    def output(self, x: str, *shape: int) -> None:
        self.outputs.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, shape))

    def classify(self, x: str, size: int) -> onnx.ModelProto:
        """A hidden layer and outputs (B, T, CLASSES), and the finished model."""
        y = self.add("Relu", [self.linear(x, size, WIDE)])
        self.output(self.linear(y, WIDE, CLASSES), B, T, CLASSES)
        return self.model()

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "fused",
            self.inputs,
            self.outputs,
            [numpy_helper.from_array(array, name) for name, array in self.stored.items()],
            value_info=self.told,
        )
        imports = [helper.make_opsetid("", self.opset)]
        if any(node.domain for node in self.nodes):
            imports.append(helper.make_opsetid(CONTRIB, 1))
        return helper.make_model(graph, opset_imports=imports, ir_version=10)


def attention(
    heads: int = 4,
    kv: int = 2,
    dim: int = 8,
    value: int = 8,
    split: bool = False,
    mask: str = "",
    rotary: int = 0,
    interleaved: int = 0,
    cache: str = "",
    mixed: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """ONNX Attention; split: heads have an axis. rotary: rotated positions of a head. cache: is
    what was "fed" "given" back? mixed: a weight makes the tokens.
    """
    n = Net(23)
    x = n.input(B, T, C)
    if mixed:
        x = n.add("MatMul", [n.weight(T, T), x])
    q, k, v = (n.linear(x, C, h * d) for h, d in ((heads, dim), (kv, dim), (kv, value)))
    if split:
        q, k, v = n.by_head(q, heads, dim), n.by_head(k, kv, dim), n.by_head(v, kv, value)
    else:
        attributes.update(q_num_heads=heads, kv_num_heads=kv)
    if rotary:
        tables = [n.weight(T + 3, rotary // 2), n.weight(T + 3, rotary // 2)]
        tables.append(n.store(np.tile(np.arange(T), (B, 1))))
        own: dict[str, int] = {"interleaved": interleaved}
        if rotary < dim:
            own["rotary_embedding_dim"] = rotary
        q = n.add("RotaryEmbedding", [q, *tables], **own | ({} if split else {"num_heads": heads}))
        k = n.add("RotaryEmbedding", [k, *tables], **own | ({} if split else {"num_heads": kv}))
    inputs = [q, k, v]
    if mask:
        made = {
            "float": lambda: n.weight(1, heads, T, T),
            "bool": lambda: n.store(np.tri(T, T), np.bool_),
            "made": lambda: n.reshape(n.linear(x, C, T), B, 1, T, T),
        }
        inputs.append(made[mask]())
    if cache:
        inputs += [*[""] * (4 - len(inputs)), n.input(B, kv, 3, dim), n.input(B, kv, 3, value)]
    y = n.add("Attention", inputs, 3 if cache else 1, **attributes)
    if cache == "given":
        n.output(n.also(y, 1), B, kv, T + 3, dim)
        n.output(n.also(y, 2), B, kv, T + 3, value)
    return n.classify(n.joined(y, heads * value) if split else y, heads * value)


def projected(
    dim: int = 8, value: int = 8, mask: Any = None, bias_per_head: bool = False, cache: bool = False
) -> onnx.ModelProto:
    """com.microsoft Attention, which holds its projections."""
    n, heads, size = Net(), 4, 20
    x = n.add("Relu", [n.linear(n.input(B, T, C), C, size)])
    width = heads * (2 * dim + value)
    inputs = [x, n.weight(size, width), n.weight(width)]
    inputs.append("" if mask is None else n.store(mask, np.int32))
    inputs.append(n.input(2, B, heads, 3, dim) if cache else "")
    inputs.append(n.weight(1, heads, T, T) if bias_per_head else "")
    sizes = {} if value == dim else {"qkv_hidden_sizes": [heads * dim, heads * dim, heads * value]}
    y = n.add(f"{CONTRIB}::Attention", inputs, 2 if cache else 1, num_heads=heads, **sizes)
    if cache:
        n.output(n.also(y, 1), 2, B, heads, T + 3, dim)
    return n.classify(y, heads * value)


def multi_head(
    dim: int = 8,
    value: int = 8,
    bias: bool = True,
    split: bool = False,
    bias_per_head: bool = False,
    padding: bool = False,
    cache: bool = False,
    unidirectional: int = 0,
) -> onnx.ModelProto:
    """com.microsoft MultiHeadAttention."""
    n, heads = Net(), 4
    x = n.input(B, T, C)
    q, k, v = (n.linear(x, C, heads * d, not bias) for d in (dim, dim, value))
    if split:
        k, v = n.by_head(k, heads, dim), n.by_head(v, heads, value)
    inputs = [q, k, v, n.weight(heads * (2 * dim + value)) if bias else ""]
    inputs.append(n.store([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32) if padding else "")
    inputs.append(n.weight(1, heads, T, T) if bias_per_head else "")
    if cache:
        inputs += [n.input(B, heads, 3, dim), n.input(B, heads, 3, value)]
    outputs = 3 if cache else 1
    attributes = {"num_heads": heads, "unidirectional": unidirectional}
    y = n.add(f"{CONTRIB}::MultiHeadAttention", inputs, outputs, **attributes)
    if cache:
        n.output(n.also(y, 1), B, heads, T + 3, dim)
        n.output(n.also(y, 2), B, heads, T + 3, value)
    return n.classify(y, heads * value)


def group_query(
    heads: int = 4,
    kv: int = 2,
    dim: int = 16,
    packed: bool = False,
    rotary: bool = False,
    interleaved: int = 0,
    sink: bool = False,
    cache: bool = False,
) -> onnx.ModelProto:
    """com.microsoft GroupQueryAttention."""
    n = Net()
    x = n.input(B, T, C)
    if packed:
        inputs = [n.linear(x, C, (heads + 2 * kv) * dim), "", ""]
    else:
        inputs = [n.linear(x, C, h * dim) for h in (heads, kv, kv)]
    inputs += [n.input(B, kv, 0, dim), n.input(B, kv, 0, dim)] if cache else ["", ""]
    inputs += [n.store([T - 1] * B, np.int32), n.store(T, np.int32)]
    inputs += [n.weight(T, dim // 2), n.weight(T, dim // 2)] if rotary else ["", ""]
    if sink:
        inputs += ["", n.weight(1, heads, T, T), n.weight(heads)]
    attributes = {"num_heads": heads, "kv_num_heads": kv, "do_rotary": int(rotary)}
    attributes["rotary_interleaved"] = interleaved
    y = n.add(f"{CONTRIB}::GroupQueryAttention", inputs, 3, **attributes)
    if cache:
        n.output(n.also(y, 1), B, kv, T, dim)
        n.output(n.also(y, 2), B, kv, T, dim)
    return n.classify(y, heads * dim)


def rotated(split: bool = False, interleaved: int = 0, part: int = 0) -> onnx.ModelProto:
    """com.microsoft RotaryEmbedding."""
    n, heads, dim = Net(), 4, 8
    x = n.linear(n.input(B, T, C), C, heads * dim)
    x = n.by_head(x, heads, dim) if split else x
    half = (part or dim) // 2
    inputs = [x, n.store(np.tile(np.arange(T), (B, 1))), n.weight(9, half), n.weight(9, half)]
    attributes = {"rotary_embedding_dim": part, "num_heads": heads} if part else {}
    y = n.add(f"{CONTRIB}::RotaryEmbedding", inputs, interleaved=interleaved, **attributes)
    return n.classify(n.joined(y, heads * dim) if split else y, heads * dim)


def convolved(group: int = 1, added: bool = True) -> onnx.ModelProto:
    """com.microsoft FusedConv with and without a sum to add."""
    n, width = Net(), 8
    x = n.input(B, 3, 6, 6)
    y = n.add("Conv", [x, n.weight(width, 3, 3, 3)], pads=[1] * 4)
    inputs = [y, n.weight(width, width // group, 3, 3), n.weight(width)]
    if added:
        inputs.append(n.add("Conv", [x, n.weight(width, 3, 1, 1)]))
    y = n.add(f"{CONTRIB}::FusedConv", inputs, pads=[1] * 4, activation="Relu", group=group)
    last = {"activation": "LeakyRelu", "activation_params": [0.1], "strides": [2, 2]}
    y = n.add(f"{CONTRIB}::FusedConv", [y, n.weight(4, width, 3, 3)], **last)
    n.output(y, B, 4, 2, 2)
    return n.model()


def padded() -> onnx.ModelProto:
    """com.microsoft ConvTransposeWithDynamicPads."""
    n = Net()
    x = n.add("Relu", [n.add("Conv", [n.input(B, 3, 5, 5), n.weight(8, 3, 1, 1)])])
    inputs = [x, n.weight(8, 6, 3, 3), n.store([1, 1, 1, 1]), n.weight(6)]
    y = n.add(f"{CONTRIB}::ConvTransposeWithDynamicPads", inputs, strides=[2, 2])
    n.told.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, [B, 6, 9, 9]))
    n.output(n.add("Conv", [n.add("Relu", [y]), n.weight(2, 6, 1, 1)]), B, 2, 9, 9)
    return n.model()


def products(
    op: str, left: tuple[int, int] = (0, 0), right: tuple[int, int] = (1, 0)
) -> onnx.ModelProto:
    """com.microsoft FusedMatMul as attention without a scale; (transpose, batch behind the rows)
    of either side.
    """
    n = Net()
    x = n.input(B, 3, T, C)
    rows = {(0, 0): (0, 1, 2, 3), (1, 0): (0, 1, 3, 2), (0, 1): (2, 0, 1, 3), (1, 1): (3, 0, 1, 2)}
    columns = dict(zip(rows, (rows[k] for k in ((1, 0), (0, 0), (1, 1), (0, 1))), strict=True))
    q = n.transpose(n.linear(x, C, 12), *rows[left])
    k = n.transpose(n.linear(x, C, 12), *columns[right])
    flags = {"transA": left[0], "transB": right[0], "alpha": 0.3}
    if left[1] or right[1]:
        flags.update(transBatchA=left[1], transBatchB=right[1])
    scores = n.add("Softmax", [n.add(f"{CONTRIB}::{op}", [q, k], **flags)], axis=-1)
    y = n.add(f"{CONTRIB}::{op}", [scores, n.linear(x, C, 16)], alpha=2.0)
    y = n.add(f"{CONTRIB}::{op}", [y, n.weight(10, 16)], transB=1, alpha=0.5)
    n.output(n.linear(n.add("Relu", [y]), 10, 3), B, 3, T, 3)
    return n.model()


def gemms() -> onnx.ModelProto:
    """com.microsoft FusedGemm."""
    n = Net()
    inputs = [n.input(3, C), n.weight(16, C), n.weight(16)]
    y = n.add(f"{CONTRIB}::FusedGemm", inputs, transB=1, activation="Relu")
    last = {"activation": "LeakyRelu", "activation_alpha": 0.2}
    y = n.add(f"{CONTRIB}::FusedGemm", [y, n.weight(16, 12)], **last)
    n.output(n.linear(y, 12, 4), 3, 4)
    return n.model()


def activations() -> onnx.ModelProto:
    """com.microsoft BiasGelu, FastGelu, QuickGelu, Gelu."""
    n = Net()
    x = n.add("MatMul", [n.input(B, T, C), n.weight(C, 16)])
    x = n.add(f"{CONTRIB}::BiasGelu", [x, n.weight(16)])
    x = n.add(f"{CONTRIB}::FastGelu", [n.linear(x, 16, 16, False), n.weight(16)])
    x = n.add(f"{CONTRIB}::QuickGelu", [n.linear(x, 16, 12)], alpha=1.5)
    return n.classify(n.add(f"{CONTRIB}::Gelu", [n.linear(x, 12, 12)]), 12)


def stream(op: str, bias: bool = True) -> onnx.ModelProto:
    """A normalised residual stream: com.microsoft Skip(Simplified)LayerNormalization."""
    n, width = Net(), 16
    ids = n.input(B, T, kind=TensorProto.INT64)
    x = n.add("Gather", [n.weight(11, width), ids])
    total = x
    for _ in range(2):
        for kind in ("attention", "feed forward"):
            if kind == "attention":
                inputs = [x, n.weight(width, 3 * width), n.weight(3 * width)]
                y = n.linear(n.add(f"{CONTRIB}::Attention", inputs, num_heads=4), width, width)
            else:
                y = n.linear(n.add("Relu", [n.linear(x, width, 32)]), 32, width, False)
            parameters = 1 + ("Simplified" not in op) + bias
            inputs = [y, total, *(n.weight(width) for _ in range(parameters))]
            x = n.add(f"{CONTRIB}::{op}", inputs, (0, 3))
            total = n.also(x, 3)
    return n.classify(x, width)


def embedded(full: bool = True) -> onnx.ModelProto:
    """com.microsoft EmbedLayerNormalization; full: with segments and a mask."""
    n, width = Net(), 16
    ids = n.input(B, T, kind=TensorProto.INT32)
    segments = n.input(B, T, kind=TensorProto.INT32) if full else ""
    tables = [n.weight(11, width), n.weight(9, width), n.weight(2, width) if full else ""]
    inputs = [ids, segments, *tables, n.weight(width), n.weight(width)]
    if full:
        inputs.append(n.input(B, T, kind=TensorProto.INT32))
    x = n.add(f"{CONTRIB}::EmbedLayerNormalization", inputs, 2)
    own = [x, n.weight(width, 3 * width), n.weight(3 * width), n.also(x, 1) if full else ""]
    y = n.linear(n.add(f"{CONTRIB}::Attention", own, num_heads=4), width, width)
    inputs = [y, x, n.weight(width), n.weight(width)]
    return n.classify(n.add(f"{CONTRIB}::SkipLayerNormalization", inputs), width)


def root_mean_square(op: str, opset: int) -> onnx.ModelProto:
    """RMSNormalization, and as onnxruntime writes it into the default domain."""
    n, width = Net(opset), 16
    x = n.linear(n.input(B, T, C), C, width)
    y = n.add(op, [x, n.weight(width)], axis=-1, epsilon=1e-5)
    y = n.linear(n.add("Relu", [n.linear(y, width, 32)]), 32, width)
    return n.classify(n.add("Add", [x, y]), width)


FUSED: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "attention": attention,
    "attention, as many heads of keys": partial(attention, 4, 4, 8, 12),
    "attention, one head of keys": partial(attention, 4, 1),
    "attention, causal and scaled": partial(attention, is_causal=1, scale=0.4),
    "attention, bias per head": partial(attention, mask="float"),
    "attention, boolean mask": partial(attention, 6, 2, 8, 6, mask="bool"),
    "attention, cache": partial(attention, cache="given"),
    "attention, cache that is fed only": partial(attention, 4, 4, cache="fed"),
    "attention, bias made": partial(attention, mask="made"),
    "attention, tokens made": partial(attention, mixed=True),
    "attention, rotary": partial(attention, rotary=8),
    "attention, rotary in part": partial(attention, rotary=4, interleaved=1),
    "split attention": partial(attention, split=True),
    "split attention, as many heads of keys": partial(
        attention, 4, 4, 8, 12, split=True, mask="float"
    ),
    "split attention, one head of keys": partial(attention, 4, 1, split=True),
    "split attention, rotary": partial(attention, split=True, rotary=8, interleaved=1),
    "split attention, rotary in part": partial(attention, split=True, rotary=4),
    "split attention, cache": partial(attention, split=True, cache="given"),
    "projected": projected,
    "projected, wider values": partial(projected, value=12, bias_per_head=True),
    "projected, mask": partial(projected, mask=[[1, 1, 1, 0], [1, 1, 0, 0]]),
    "projected, lengths": partial(projected, mask=[3, 2]),
    "projected, cache": partial(projected, cache=True),
    "multi-head": multi_head,
    "multi-head, wider values": partial(multi_head, value=12, bias_per_head=True),
    "multi-head, split": partial(multi_head, bias=False, split=True),
    "multi-head, cache": partial(multi_head, bias=False, cache=True),
    "multi-head, padding": partial(multi_head, padding=True, unidirectional=1),
    "group query": group_query,
    "group query, as many heads of keys": partial(group_query, 4, 4, sink=True),
    "group query, rotary": partial(group_query, dim=32, rotary=True),
    "group query, packed": partial(group_query, dim=32, packed=True, rotary=True, interleaved=1),
    "group query, cache": partial(group_query, cache=True),
    "rotated": rotated,
    "rotated, split": partial(rotated, split=True, interleaved=1),
    "rotated, in part": partial(rotated, part=4),
    "convolved": convolved,
    "convolved in groups": partial(convolved, 2, added=False),
    "padded": padded,
    "products": partial(products, "FusedMatMul"),
    "products, left transposed": partial(products, "FusedMatMul", (1, 0), (0, 0)),
    "products, all transposed": partial(products, "FusedMatMul", (1, 1), (1, 1)),
    "products, batch behind": partial(products, "FusedMatMul", (0, 1), (0, 1)),
    "products, old name": partial(products, "TransposeMatMul"),
    "gemms": gemms,
    "activations": activations,
    "stream": partial(stream, "SkipLayerNormalization"),
    "stream without bias": partial(stream, "SkipLayerNormalization", bias=False),
    "stream without mean": partial(stream, "SkipSimplifiedLayerNormalization"),
    "embedded": embedded,
    "embedded, words and positions": partial(embedded, full=False),
    "root mean square": partial(root_mean_square, "RMSNormalization", 23),
    "root mean square of onnxruntime": partial(
        root_mean_square, "SimplifiedLayerNormalization", 17
    ),
}

# Calls of the rules that no graph on a CPU can reach, and why; the rule tests try them.
NO_KERNEL = {
    "c.factor(channels, (outer, inner))": "GroupNorm",
    "c.factor(query[-1], (heads, dim))": "GatedRelativePositionBias",
    "c.freeze(dim, Reason.UNSUPPORTED_FORM, text)": "a rotation of a part of a head, grouped",
    "c.freeze(heads.dim, Reason.UNSUPPORTED_FORM, text)": "do_rotary of Attention",
    'c.freeze(k[3], Reason.UNSUPPORTED_FORM, "keys and values side by side")': "packed keys",
    "c.freeze(labels, Reason.SPATIAL_AXIS, text)": "GroupNorm",
    'c.freeze(q[3], Reason.UNSUPPORTED_FORM, "queries, keys and values side by side")': (
        "packed queries"
    ),
    'c.freeze(weight[1], Reason.UNSUPPORTED_FORM, "numbers that a gate sums in two halves")': (
        "GatedRelativePositionBias"
    ),
    'c.inexact(heads.dim, Reason.NORM_STATISTICS, "the norm of a head runs over it")': (
        "norms of GroupQueryAttention"
    ),
    "c.inexact(inner, Reason.NORM_STATISTICS, text)": "GroupNorm",
    'c.tie(bias[0], query[-1], "bias")': "GatedRelativePositionBias",
    'c.tie(eco[1], heads, "a number per head")': "GatedRelativePositionBias",
    'c.tie(halves[0], halves[1], "a gate and what it gates")': "BiasSplitGelu",
    'c.tie(k[2], heads.kv, "heads of queries and keys")': "packed keys",
    'c.tie(k[4], heads.dim, "positions of queries and keys")': "packed keys",
    'c.tie(k[4], heads.value, "keys and values in one tensor")': "packed keys",
    'c.tie(norm[0], heads.dim, "the norm of a head")': "norms of GroupQueryAttention",
    'c.tie(own, channels, "parameters of the norm")': "GroupNorm",
}
# Freezes that say why, of labels which nothing frees anyway.
SAID_TWICE = {
    'c.freeze(labels, Reason.ORDERED_AXIS, "positions of a rotary embedding")': (
        "no weight makes the positions of a table of angles"
    ),
    'c.freeze(table[0], Reason.DYNAMIC_SHAPE, "an axis that an embedding indexes by data")': (
        "no weight makes the rows of an embedding"
    ),
}

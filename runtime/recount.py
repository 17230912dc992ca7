"""Costs counted from shapes alone, without labels or polynomials: the check on both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import onnx_ir as ir

from prunec.compiler.buffers import computed_times, parts, run_of
from prunec.compiler.constants import attribute
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import WeightInfo
from prunec.compiler.ops import op_key
from prunec.runtime.liveness import live_peak

Shape = tuple[int, ...]
Counter = Callable[[ir.Node, Sequence[Shape], Shape], int]


def recount(
    model: ir.Model,
    facts: Facts,
    weights: Sequence[WeightInfo],
    held: Mapping[str, int],
    counters: Mapping[str, Counter] | None = None,
) -> dict[str, int]:
    """All costs of a model as it stands.

    facts: of this model. weights, held: of the dense model; names and what counts are taken from
    there, and which activations have the same size, but sizes from `model`. counters: more rows
    for COUNTERS.
    """
    table = {**COUNTERS, **(counters or {})}
    opset = model.opset_imports.get("", 1)
    flops = _flops(model.graph, facts, opset, table)
    present = {
        w.value: prod(facts.shapes[w.value])
        for w in weights
        if w.counted and w.value in facts.shapes
    }
    stored = [w for w in weights if w.value in present]
    eighths = sum(round(8 * w.itemsize) * present[w.value] for w in stored)
    return {
        "flops": flops,
        "params": sum(w.elements_per_item * present[w.value] for w in stored),
        "bytes": -(-eighths // 8),
        **_activations(model.graph, facts, opset, held),
    }


def _activations(
    graph: ir.Graph, facts: Facts, opset: int, held: Mapping[str, int]
) -> dict[str, int]:
    """What is computed, and the most that is live at once in the order of the file."""
    elements = {name: prod(facts.shapes[name]) for name in held if name in facts.shapes}
    nbytes = {name: n * facts.dtypes[name].itemsize for name, n in elements.items()}
    run = run_of(graph, {name: held[name] for name in elements}, facts, opset)
    return {
        "activations": sum(
            times * elements[name]
            for name, times in computed_times(graph, facts, opset)
            if name in elements
        ),
        "memory": live_peak(run, nbytes),
    }


def _flops(graph: ir.Graph, facts: Facts, opset: int, table: Mapping[str, Counter]) -> int:
    """Both branches of an If, unless a constant decides; a loop's body once an iteration."""
    flops = 0
    for node in graph:
        for body, times in parts(node, facts, opset):
            flops += times * _flops(body, facts, opset, table) if times else 0
        counter = table.get(op_key(node))
        # A recurrent node may have no use for its first outputs.
        out = facts.shapes.get(next((v.name for v in node.outputs if v.name), ""))
        ins = [() if v is None else facts.shapes.get(v.name or "") for v in node.inputs]
        if counter is not None and out is not None and None not in ins:
            flops += counter(node, [s for s in ins if s is not None], out)
    return flops


def _conv(_: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    return prod(out) * prod(ins[1][1:])


def _qlinear_conv(_: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    return prod(out) * prod(ins[3][1:])


def _conv_transpose(_: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    return prod(ins[0]) * prod(ins[1][1:])


def _gemm(node: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    return prod(out) * ins[0][0 if attribute(node, "transA", 0) else 1]


def _matmul(_: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    return prod(out) * ins[0][-1]


def _einsum(node: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    terms = attribute(node, "equation").replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str | int, int] = {}
    for term, shape in zip(terms, ins, strict=True):
        before, dots, after = term.partition("...")
        # Axes of an ellipsis are aligned from its right end: they are numbered from there.
        span = range(len(before) + len(after) - len(shape), 0) if dots else ()
        for letter, size in zip([*before, *span, *after], shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return prod(sizes.values())


def _recurrent(_: ir.Node, ins: Sequence[Shape], __: Shape) -> int:
    x, w, r = ins[:3]
    return x[0] * x[1] * (prod(w) + prod(r))


def _fused_matmul(node: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    if not attribute(node, "transA", 0):
        return prod(out) * ins[0][-1]
    return prod(out) * ins[0][0 if attribute(node, "transBatchA", 0) else -2]


def _attention(node: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    """Q K' and A V: every pair of a query and a key, over positions of all heads of both."""
    q, k = ins[:2]
    past = ins[4][2] if len(ins) > 4 and ins[4] else 0
    pairs = q[0] * q[-2] * (k[-2] + past)
    return pairs * (q[1] * q[3] + out[1] * out[3] if len(q) == 4 else q[2] + out[2])


def _fused_projection(node: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    (batch, tokens, _), w = ins[:2]
    keys = tokens + (ins[4][3] if len(ins) > 4 and ins[4] else 0)
    sizes = attribute(node, "qkv_hidden_sizes") or (w[1] // 3,)
    return batch * tokens * (prod(w) + keys * (sizes[0] + out[2]))


def _multi_head(node: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    q, k = (*ins, ())[:2]
    past = ins[6][2] if len(ins) > 6 and ins[6] else 0
    keys = q[1] if len(q) == 5 else k[2] if len(k) == 4 else k[1]
    width = q[2] * q[4] if len(q) == 5 else q[2]
    return out[0] * out[1] * (past + keys) * (width + out[2])


def _group_query(_: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    past = ins[3][2] if len(ins) > 3 and ins[3] else 0
    return out[0] * out[1] * (past + out[1]) * 2 * out[2]


def _position_bias(_: ir.Node, ins: Sequence[Shape], __: Shape) -> int:
    return prod(ins[0]) * ins[3][1]


COUNTERS: Mapping[str, Counter] = {
    "Attention": _attention,
    "Conv": _conv,
    "ConvInteger": _conv,
    "ConvTranspose": _conv_transpose,
    "DeformConv": _conv,
    "Einsum": _einsum,
    "GRU": _recurrent,
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _matmul,
    "RNN": _recurrent,
    "com.microsoft::Attention": _fused_projection,
    "com.microsoft::ConvTransposeWithDynamicPads": _conv_transpose,
    "com.microsoft::DynamicQuantizeMatMul": _matmul,
    "com.microsoft::FusedConv": _conv,
    "com.microsoft::FusedGemm": _gemm,
    "com.microsoft::FusedMatMul": _fused_matmul,
    "com.microsoft::FusedMatMulActivation": _fused_matmul,
    "com.microsoft::GatedRelativePositionBias": _position_bias,
    "com.microsoft::GroupQueryAttention": _group_query,
    "com.microsoft::MatMulIntegerToFloat": _matmul,
    "com.microsoft::MatMulNBits": _matmul,
    "com.microsoft::MultiHeadAttention": _multi_head,
    "com.microsoft::NhwcConv": _conv,
    "com.microsoft::NhwcFusedConv": _conv,
    "com.microsoft::QGemm": _gemm,
    "com.microsoft::QLinearConv": _qlinear_conv,
    "com.microsoft::TransposeMatMul": _fused_matmul,
}

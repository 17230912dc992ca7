"""Costs counted from shapes alone, without labels or polynomials: the check on both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import onnx_ir as ir

from prunec.compiler.constants import attribute
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import WeightInfo

Shape = tuple[int, ...]
Counter = Callable[[ir.Node, Sequence[Shape], Shape], int]


def recount(model: ir.Model, facts: Facts, weights: Sequence[WeightInfo]) -> dict[str, int]:
    """flops, params and bytes of a model as it stands.

    facts: of this model. weights: of the dense model; names and what counts are taken from there,
    sizes from `model`.
    """
    flops = 0
    for node in model.graph:
        counter = COUNTERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        out = facts.shapes.get(node.outputs[0].name or "") if node.outputs else None
        ins = [facts.shapes.get(v.name or "") for v in node.inputs if v is not None]
        if counter is not None and out is not None and None not in ins:
            flops += counter(node, [s for s in ins if s is not None], out)
    present = {
        w.value: prod(facts.shapes[w.value])
        for w in weights
        if w.counted and w.value in facts.shapes
    }
    return {
        "flops": flops,
        "params": sum(present.values()),
        "bytes": sum(int(w.itemsize) * present[w.value] for w in weights if w.value in present),
    }


def _conv(_: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    return prod(out) * prod(ins[1][1:])


def _conv_transpose(_: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    return prod(ins[0]) * prod(ins[1][1:])


def _gemm(node: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    return prod(out) * ins[0][0 if attribute(node, "transA", 0) else 1]


def _matmul(_: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    return prod(out) * ins[0][-1]


def _einsum(node: ir.Node, ins: Sequence[Shape], out: Shape) -> int:
    terms = attribute(node, "equation").replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, ins, strict=True):
        for letter, size in zip(term, shape, strict=False):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return prod(sizes.values())


COUNTERS: Mapping[str, Counter] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": _matmul,
}

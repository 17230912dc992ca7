"""How other tools count multiply-accumulates and weights; for comparison with their figures.

``macs`` is prunec's own: one multiply-accumulate is 1, everything that multiplies counts, at the
real resolution. ``2macs`` counts a multiplication and an addition (gumi). ``gator`` counts
convolutions only, per pixel of the input, and the stride of a block where its first 1x1
convolution runs, as in the first version of ResNet (He et al., 2016); its params are the weights of
convolutions (Passov, Gator, ICANN 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType

import onnx_ir as ir

from prunec.compiler.cost import Polynomial
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.walk import nodes

Counts = Mapping[str, Polynomial]  # of "flops" and "params"
BETWEEN = ("BatchNormalization", "Clip", "Relu")  # what may stand between two convolutions


def macs(model: ir.Model, facts: Facts, graph: Hypergraph) -> Counts:
    """One multiply-accumulate is 1."""
    return _counts(graph, dict.fromkeys(graph.trace.ledger.multiplied_by, 1.0))


def two_macs(model: ir.Model, facts: Facts, graph: Hypergraph) -> Counts:
    """A multiplication and an addition."""
    return _counts(graph, dict.fromkeys(graph.trace.ledger.multiplied_by, 2.0))


def gator(model: ir.Model, facts: Facts, graph: Hypergraph) -> Counts:
    """Convolutions, per pixel of the input; strides as in the first version of ResNet."""
    convolutions = [node for node in nodes(model.graph) if node.op_type == "Conv"]
    images = [facts.shapes.get(v.name or "", ()) for v in model.graph.inputs]
    pixels = max((s[0] * prod(s[2:]) for s in images if len(s) > 2), default=1)
    weights = {v.name for node in convolutions if (v := node.inputs[1]) is not None}
    scales = {node.name or "": 1 / (pixels * _later_stride(node)) for node in convolutions}
    ledger = graph.trace.ledger
    counted = (w.value for w in graph.weights if w.counted)
    stored = zip(counted, ledger.parameters, strict=True)
    return {
        "flops": _counts(graph, scales)["flops"],
        "params": Polynomial.of((t.packing, t.shape) for name, t in stored if name in weights),
    }


CONVENTIONS: Mapping[str, Callable[[ir.Model, Facts, Hypergraph], Counts]] = MappingProxyType(
    {"macs": macs, "2macs": two_macs, "gator": gator}
)


def _counts(graph: Hypergraph, scales: Mapping[str, float]) -> Counts:
    """The multiplications of these nodes, times their factors, and all parameters."""
    ledger = graph.trace.ledger
    products = zip(ledger.multiplied_by, ledger.multiplications, strict=True)
    return {
        "flops": Polynomial.of(
            (scale * scales[name], axes) for name, (scale, axes) in products if name in scales
        ),
        "params": Polynomial.of((t.packing, t.shape) for t in ledger.parameters),
    }


def _later_stride(node: ir.Node) -> int:
    """Pixels of this 1x1 convolution per pixel of the strided one that alone reads it, or 1."""
    weight = node.inputs[1]
    if weight is None or weight.shape is None or prod(weight.shape.numpy()[2:]) != 1:
        return 1
    reader = node
    while True:
        uses = [user for value in reader.outputs for user, _ in value.uses()]
        if len(uses) != 1:
            return 1
        (reader,) = uses
        if reader.op_type == "Conv":
            strides = reader.attributes.get("strides")
            return prod(strides.as_ints()) if strides is not None else 1
        if reader.op_type not in BETWEEN:
            return 1

"""Performance density: how much a model is good for per bit that it stores and computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx_ir as ir

from prunec.compiler.buffers import computed_times
from prunec.compiler.facts import Facts
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.literals import literal
from prunec.compiler.ops import op_key

MEGABIT = 1e6
FROM_INTEGERS = frozenset({"DequantizeLinear"})
TO_INTEGERS = frozenset({"QuantizeLinear"})
CLAMPS = frozenset({"Clip", "Relu"})  # what saturating integers do by themselves
HELD = FROM_INTEGERS | TO_INTEGERS


@dataclass(frozen=True, slots=True)
class Density:
    """What a model stores and computes for one sample, and its score per megabit of both.

    weights: elements of parameters; weight_bits: of all of them, in bits. activations: elements of
    the outputs of all layers; activation_bits: in bits. score: the first metric, accuracies in
    percent; None where nothing was measured.
    """

    weights: int
    weight_bits: int
    activations: int
    activation_bits: int
    score: float | None = None

    @property
    def bits_per_weight(self) -> float:
        """The mean."""
        return self.weight_bits / self.weights if self.weights else 0.0

    @property
    def bits_per_activation(self) -> float:
        """The mean."""
        return self.activation_bits / self.activations if self.activations else 0.0

    @property
    def density(self) -> float | None:
        """``score / (weight bits + activation bits)``, bits in millions.

        ``PD = score / (|W| bits_w (1 - s_w) + |F| bits_f (1 - s_f))``: what was sliced away is not
        counted, so the sparsities s of the formula are 0. Source: mdpi2022, section 4.
        """
        bits = self.weight_bits + self.activation_bits
        return None if self.score is None or not bits else self.score / (bits / MEGABIT)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "weights": self.weights,
            "weight_bits": self.weight_bits,
            "bits_per_weight": self.bits_per_weight,
            "activations": self.activations,
            "activation_bits": self.activation_bits,
            "bits_per_activation": self.bits_per_activation,
            "score": self.score,
            "performance_density": self.density,
        }


def density(
    model: ir.Model, facts: Facts, graph: Hypergraph, score: float | None = None
) -> Density:
    """Count a model. graph: its own hypergraph.

    Weights are the parameters of `params`; scales and zero points are none. Activations are those
    of `activations`, over the first dimension of the first input, the batch. A value that is read
    as integers alone has their bits, so has one that only a Relu or Clip before them reads; what
    QuantizeLinear and DequantizeLinear make is the same value again.
    """
    stored = [w for w in graph.weights if w.counted]
    held, bits = _held(model.graph), _bits(model.graph)
    elements = total = 0
    for name, times in computed_times(model.graph, facts, model.opset_imports.get("", 1)):
        if name in held or name not in graph.held or name not in facts.shapes:
            continue
        size = times * prod(facts.shapes[name])
        elements += size
        total += size * (bits.get(name) or 8 * facts.dtypes[name].itemsize)
    batch = _batch(model, facts)
    return Density(
        weights=sum(prod(w.shape) * w.elements_per_item for w in stored),
        weight_bits=sum(round(8 * w.itemsize) * prod(w.shape) for w in stored),
        activations=elements // batch,
        activation_bits=total // batch,
        score=score,
    )


def _batch(model: ir.Model, facts: Facts) -> int:
    shapes = [facts.shapes.get(str(v.name), ()) for v in model.graph.inputs]
    return next((shape[0] for shape in shapes if shape and shape[0] > 0), 1)


def _held(graph: ir.Graph) -> set[str]:
    """Outputs of nodes that only change how a value is written down."""
    out: set[str] = set()
    for node in graph:
        source = node.inputs[0] if node.inputs else None
        maker = None if source is None else source.producer()
        clipped = op_key(node) == "Clip" and maker is not None and op_key(maker) in TO_INTEGERS
        if op_key(node) in HELD or clipped:
            out |= {str(v.name) for v in node.outputs}
    return out


def _bits(graph: ir.Graph) -> dict[str, int]:
    """Bits of the values that are kept as integers, by name."""
    found: dict[str, int] = {}
    for node in reversed(list(graph)):
        for value in node.outputs:
            readers = [user for user, _ in value.uses()]
            own = [_as_read(user, found) for user in readers]
            if own and all(own) and not value.is_graph_output():
                found[str(value.name)] = max(own)
    return found


def _as_read(node: ir.Node, found: Mapping[str, int]) -> int:
    """Bits in which a node reads a value, 0 for those of its own type."""
    if op_key(node) in TO_INTEGERS:
        kind = node.outputs[0].dtype
        readers = [user for user, _ in node.outputs[0].uses()]
        if len(readers) == 1 and op_key(readers[0]) == "Clip":
            low, high = (literal(value) for value in readers[0].inputs[1:3])
            if low is not None and high is not None:  # 8 bits hold integers of fewer
                return int(high.item() - low.item()).bit_length()
        return 0 if kind is None else round(8 * kind.itemsize)
    if op_key(node) in CLAMPS:
        return found.get(str(node.outputs[0].name), 0)
    return 0

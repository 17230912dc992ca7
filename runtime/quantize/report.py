"""What became of a model that was quantised: bits, bytes, kernels and what stayed float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx_ir as ir

from prunec.passes.quantize.density import Density, density
from prunec.passes.quantize.ops import RECURRENT
from prunec.passes.quantize.places import Places
from prunec.runtime.quantize.kernels import Kernels
from prunec.runtime.quantize.quantise import Quantised
from prunec.runtime.subject import Subject, open_model

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
WEIGHTS = dict.fromkeys(LAYERS, (1,)) | dict.fromkeys(RECURRENT, (1, 2))  # operator -> inputs


@dataclass(frozen=True, slots=True)
class QuantisationReport:
    """recipe: its text; ranges, rounding, correction: what it comes to. nodes: operator -> how many
    work on integers. weight_bits: bits -> elements of weights that have them; 32 where they stayed
    float. activation_bits: bits -> values. floats: node -> why it stays float, of layers with
    weights and of what might have followed them. kept: quantised nodes that the model came with.
    norms: that were folded. samples: of calibration. kernels: None where no onnxruntime runs. size:
    bits of weights and activations, and what the model scores per bit.
    """

    recipe: str
    ranges: str
    rounding: str
    correction: bool
    nodes: Mapping[str, int]
    weight_bits: Mapping[int, int]
    activation_bits: Mapping[int, int]
    floats: Mapping[str, str]
    kept: int
    norms: int
    samples: int
    kernels: Kernels | None = None
    size: Density | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "recipe": self.recipe,
            "ranges": self.ranges,
            "rounding": self.rounding,
            "correction": self.correction,
            "nodes": dict(self.nodes),
            "weight_bits": {str(bits): n for bits, n in self.weight_bits.items()},
            "activation_bits": {str(bits): n for bits, n in self.activation_bits.items()},
            "floats": dict(self.floats),
            "came_quantised": self.kept,
            "norms_folded": self.norms,
            "samples": self.samples,
            "kernels": None if self.kernels is None else self.kernels.to_dict(),
            "size": None if self.size is None else self.size.to_dict(),
        }


def report_of(
    done: Quantised, kernels: Kernels | None = None, score: float | None = None
) -> QuantisationReport:
    """The report of a quantised model; kernels: as they run here. score: of the model, if known."""
    return QuantisationReport(
        recipe=str(done.recipe),
        ranges=done.recipe.range_text,
        rounding=done.recipe.rounding_text,
        correction=done.recipe.corrects,
        nodes=dict(sorted(Counter(place.op for place in done.places.nodes).items())),
        weight_bits=_weight_bits(done),
        activation_bits=dict(
            sorted(Counter(grid.bits for grid in done.activations.values()).items())
        ),
        floats=done.floats,
        kept=came_quantised(done.float_model),
        norms=len(done.norms),
        samples=done.samples,
        kernels=kernels,
        size=size_of(open_model(done.model), score),
    )


def size_of(subject: Subject, score: float | None = None) -> Density:
    """Bits of a model's weights and activations."""
    return density(subject.model, subject.facts, subject.graph, score)


def came_quantised(model: ir.Model) -> int:
    """Nodes that compute with integers, or with what integers stand for."""
    count = 0
    for node in model.graph:
        made = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        dequantised = made is not None and made.op_type == "DequantizeLinear"
        layer = node.op_type in LAYERS and dequantised
        count += layer or node.op_type.startswith("QLinear") or node.op_type.endswith("Integer")
    return count


def _weight_bits(done: Quantised) -> dict[int, int]:
    found: Counter[int] = Counter()
    for grid, codes in done.weights.values():
        found[grid.bits] += codes.size
    for name, shape in _float_weights(done.float_model, done.places).items():
        assert name not in done.weights
        found[32] += prod(shape)
    return dict(sorted(found.items()))


def _float_weights(model: ir.Model, places: Places) -> dict[str, tuple[int, ...]]:
    """Stored float weights of layers that are not among the places."""
    found = {}
    for node in model.graph:
        positions = [k for k in WEIGHTS.get(node.op_type, ()) if k < len(node.inputs)]
        for value in (node.inputs[k] for k in positions):
            if value is None or not value.is_initializer() or str(value.name) in places.weights:
                continue
            floats = value.dtype is not None and value.dtype.is_floating_point()
            if floats and value.shape is not None:
                found[str(value.name)] = tuple(value.shape.numpy())
    return found

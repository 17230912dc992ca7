"""Which kernels onnxruntime runs: its own optimised graph says."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from prunec.runtime.session import make_session

PREFIX = "QLinear"
INTEGER = frozenset(
    [
        "ConvInteger",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
    ]
)
# Layers in float, among them what onnxruntime fuses them to.
LAYERS = frozenset(
    ["Conv", "ConvTranspose", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul"]
)
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class Kernels:
    """What runs, once onnxruntime has fused what it can.

    counts: operator -> how many nodes, ascending by name. float_layers: names of the layers that
    run in float. unfused: of these, those that read dequantised integers: their Q and DQ cost time
    and win none.
    """

    counts: Mapping[str, int]
    float_layers: tuple[str, ...]
    unfused: tuple[str, ...]

    @property
    def integer(self) -> Mapping[str, int]:
        """Of the counts, those of kernels that compute with integers."""
        return {op: n for op, n in self.counts.items() if op.startswith(PREFIX) or op in INTEGER}

    @property
    def conversions(self) -> int:
        """QuantizeLinear and DequantizeLinear nodes that are left."""
        return sum(self.counts.get(op, 0) for op in CONVERSIONS)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "operators": dict(self.counts),
            "integer": dict(self.integer),
            "conversions": self.conversions,
            "float_layers": list(self.float_layers),
            "unfused": list(self.unfused),
        }


def kernels(model: str | Path | ir.Model, *, provider: str = "cpu", threads: int = 1) -> Kernels:
    """What onnxruntime makes of a model on this machine. Raises ModelError."""
    with tempfile.TemporaryDirectory(prefix="prunec-") as folder:
        optimised = Path(folder) / "optimised.onnx"
        make_session(
            model,
            provider=provider,
            threads=threads,
            optimised=optimised,
            # Weights lie beside it: the graph is all that is read, and protobuf ends at 2 GB.
            settings={
                "session.optimized_model_external_initializers_file_name": "weights.bin",
                "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
            },
        )
        graph = onnx.load(str(optimised), load_external_data=False).graph
    makers = {name: node for node in graph.node for name in node.output}
    layers = [node for node in graph.node if node.op_type in LAYERS]
    unfused = [
        node.name or node.output[0]
        for node in layers
        if any(makers[i].op_type == "DequantizeLinear" for i in node.input if i in makers)
    ]
    return Kernels(
        dict(sorted(Counter(node.op_type for node in graph.node).items())),
        tuple(node.name or node.output[0] for node in layers),
        tuple(unfused),
    )

"""Operator sets: which are taken, which are refused."""

from __future__ import annotations

import onnx

from prunec.compiler.errors import ModelError
from prunec.frontends.structure import DEFAULT_DOMAINS, graphs_of

OLDEST_OPSET = 7  # before 7, element-wise operators broadcast by attribute
NCHWC = "com.microsoft.nchwc"


def check_opsets(model: onnx.ModelProto, label: str) -> int:
    """The version of the default operator set; one before OLDEST_OPSET has to be converted.

    Raises ModelError where the operators can't be worked on.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    default = [versions[domain] for domain in DEFAULT_DOMAINS if domain in versions]
    if not default:
        raise ModelError(f"{label}: does not import the default operator set (domain '')")
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= default[0] <= newest:
        raise ModelError(
            f"{label}: operator set {default[0]} is not supported (1 to {newest} with onnx "
            f"{onnx.__version__}); install a newer onnx, or export with an older operator set"
        )
    if any(node.domain == NCHWC for graph in graphs_of(model) for node in graph.node):
        raise ModelError(
            f"{label}: was optimised by onnxruntime for the processor of one machine (operators "
            f"of {NCHWC}); give the file from before that, or optimise to level 'extended' at most"
        )
    return int(default[0])

"""onnx-graphsurgeon in and out: a `gs.Graph` passed in can be had back as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from prunec.compiler.errors import MissingDependencyError, ModelError
from prunec.frontends.write import to_proto

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


def export_proto(graph: gs.Graph) -> onnx.ModelProto:
    """Turn a gs.Graph into a proto; the graph is not changed. Raises ModelError if it is broken."""
    gs = _graphsurgeon()
    try:
        # The type check of gs evaluates every lazily loaded weight; ours does not need it.
        proto = gs.export_onnx(graph, do_type_check=False)
    except Exception as error:  # gs raises whatever its asserts and numpy raise
        raise ModelError(f"<onnx_graphsurgeon.Graph>: cannot be exported: {error}") from error
    assert isinstance(proto, onnx.ModelProto)
    return proto


def to_graphsurgeon(model: ir.Model) -> gs.Graph:
    """Turn a model into a gs.Graph, weights inside. Raises MissingDependencyError without gs."""
    return _graphsurgeon().import_onnx(to_proto(model))


def _graphsurgeon() -> Any:
    try:
        import onnx_graphsurgeon
    except ImportError as error:
        raise MissingDependencyError(
            "onnx-graphsurgeon is not installed: pip install 'prunec[graphsurgeon]'"
        ) from error
    return onnx_graphsurgeon

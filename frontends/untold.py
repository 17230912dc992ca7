"""Types that onnx-ir has no words for, maps above all: kept aside and written back."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir

from prunec.frontends.structure import graphs_of

_KEY = "prunec.types"


def take_types(model: onnx.ModelProto) -> dict[str, bytes]:
    """Remove, in place, the types that onnx-ir can't read; value name -> serialised TypeProto.

    scikit-learn's classifiers return a sequence of maps (ZipMap of ai.onnx.ml).
    """
    taken = {}
    for graph in graphs_of(model):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if _is_untold(value.type):
                taken[value.name] = value.type.SerializeToString(deterministic=True)
                value.ClearField("type")
    return taken


def _is_untold(kind: onnx.TypeProto) -> bool:
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        return _is_untold(getattr(kind, which).elem_type)
    return which in ("map_type", "opaque_type")


def keep_types(model: ir.Model, types: Mapping[str, bytes]) -> None:
    """Remember types that were taken out, on the model; clones keep them."""
    if types:
        model.graph.meta[_KEY] = dict(types)


def put_types_back(graph: onnx.GraphProto, model: ir.Model) -> None:
    """Give inputs and outputs of a serialised main graph the types that were taken out."""
    types = model.graph.meta.get(_KEY)
    if isinstance(types, Mapping):
        for value in (*graph.input, *graph.output):
            if value.name in types:
                value.type.ParseFromString(types[value.name])

"""Which nodes come from the call of a model-local function; marks that clones keep."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import onnx_ir as ir

CALL = "prunec.call"  # name of the outermost call that a node comes from
FORMAL = "prunec.formal"  # input position -> which input of that call it reads


def call_of(node: ir.Node) -> str | None:
    """Name of the outermost call that a node comes from."""
    name = node.meta.get(CALL)
    return name if isinstance(name, str) else None


def formals_of(node: ir.Node) -> Mapping[int, int]:
    """Input position -> position among the inputs of the call that the node comes from."""
    found = node.meta.get(FORMAL)
    return found if isinstance(found, Mapping) else {}


def reader(node: ir.Node, position: int) -> Hashable:
    """Who reads an input: the node, or the input of the call that hands the value to it."""
    formal = formals_of(node).get(position)
    return id(node) if formal is None else (call_of(node), formal)

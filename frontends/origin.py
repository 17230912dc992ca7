"""Where a model comes from and what loading changed, in the graph's metadata (clones keep it)."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from prunec.compiler.diagnostics import Diagnostic

_KEY = "prunec.origin"


@dataclass(frozen=True, slots=True)
class Origin:
    """files: real paths that weights are mapped from. external: data lay beside the model file.

    notes: what loading changed.
    """

    files: tuple[str, ...] = ()
    external: bool = False
    notes: tuple[Diagnostic, ...] = ()


def origin_of(model: ir.Model) -> Origin:
    """The origin recorded on a model; an empty one where there is none."""
    found = model.graph.meta.get(_KEY)
    return found if isinstance(found, Origin) else Origin()


def set_origin(model: ir.Model, origin: Origin) -> None:
    """Record where `model` comes from."""
    model.graph.meta[_KEY] = origin

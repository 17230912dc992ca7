"""Where a model's weights come from, carried in the graph's metadata store (clones keep it)."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

_KEY = "prunec.origin"


@dataclass(frozen=True, slots=True)
class Origin:
    """files: real paths that weights are mapped from. external: data lay beside the model file."""

    files: tuple[str, ...] = ()
    external: bool = False


def origin_of(model: ir.Model) -> Origin:
    """The origin recorded on a model; an empty one where there is none."""
    found = model.graph.meta.get(_KEY)
    return found if isinstance(found, Origin) else Origin()


def set_origin(model: ir.Model, origin: Origin) -> None:
    """Record where the weights of `model` come from."""
    model.graph.meta[_KEY] = origin
